"""Leases, by the shell that lays them down: no ssh is needed for that."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_carthage.channels.ssh.lease import (
    BREAK,
    LOOK,
    MARK,
    RELEASE,
    RENEW,
    TAKE,
    Lease,
    here,
    mark,
    record,
    state_of,
)

Ask = Callable[..., "Lease | None"]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Runs a script as a host does whose leases are in a folder of the test's."""
    tmp_path.chmod(0o1777)

    def run(script: str, *words: str) -> Lease | None:
        script = script.replace("at=/run/lock;", f"at={tmp_path};")
        done = subprocess.run(
            ["sh", "-c", script, "sh", *words], capture_output=True, text=True, check=True
        )
        return state_of(done.stdout)

    return run


def test_lease_is_the_first_ones_until_he_gives_it_back(ask: Ask, tmp_path: Path) -> None:
    mine, theirs = record("a", "me", pid=os.getpid()), record("b", "you", pid=os.getpid())
    assert ask(LOOK) is None
    assert ask(TAKE, mine, "60", "") is None
    held = ask(TAKE, theirs, "60", "")
    assert held is not None
    assert held.owner.startswith("me on ")
    assert 50 < held.left_s <= 60
    assert not held.is_dead
    again = ask(RELEASE, "b")  # it is not his
    assert again is not None
    assert again.text == held.text
    assert ask(RELEASE, "a") is None
    assert list(tmp_path.iterdir()) == []
    assert ask(TAKE, theirs, "60", "") is None


def test_dead_lease_is_replaced_by_one_of_those_who_have_seen_it(ask: Ask) -> None:
    old, mine, theirs = (record(name, name, pid=1) for name in ("old", "mine", "theirs"))
    assert ask(TAKE, old, "0", "") is None
    dead = ask(LOOK)
    assert dead is not None
    assert ask(TAKE, mine, "60", dead.text) is None
    late = ask(TAKE, theirs, "60", dead.text)  # he has seen the old one, too
    assert late is not None
    assert late.record["id"] == "mine"
    again = ask(LOOK)
    assert again is not None
    assert again.text == late.text


def test_lease_is_renewed_by_its_owner_alone(ask: Ask) -> None:
    mine = record("a", "me", pid=os.getpid())
    assert ask(TAKE, mine, "60", "") is None
    assert ask(RENEW, "a", mine, "600") is None
    held = ask(RENEW, "b", record("b", "you", pid=1), "60")
    assert held is not None
    assert held.left_s > 500
    again = ask(BREAK, "something else")
    assert again is not None
    assert again.text == held.text
    assert ask(BREAK, held.text) is None
    assert ask(LOOK) is None


def test_mark_says_why_and_stays(ask: Ask) -> None:
    assert ask(TAKE, record("a", "me", pid=1), "60", "") is None
    assert ask(MARK, "a", mark("a", "me", "no snapshot")) is None
    held = ask(LOOK)
    assert held is not None
    assert held.mark == "no snapshot"
    assert str(held) == "marked by me: no snapshot"
    taken = ask(TAKE, record("b", "you", pid=1), "60", "")
    assert taken is not None
    assert taken.mark == "no snapshot"


def test_lease_of_a_process_of_this_host_that_is_gone_is_dead() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()

    def lease(**holder: object) -> Lease:
        values = {"owner": "me", "holder": {**here(os.getpid()), **holder}}
        return Lease(text=json.dumps(values), left_s=60, record=values)

    assert not lease().is_dead
    assert lease(pid=ended.pid).is_dead
    assert lease(began="1").is_dead  # another process has its number by now
    assert not lease(pid=ended.pid, boot="another host's").is_dead
    assert not lease(pid=ended.pid, processes=1).is_dead  # of a container's


def test_what_somebody_else_has_laid_there_is_told_as_it_is() -> None:
    held = state_of("held 100 by hand, ask Eve")
    assert held is not None
    assert held.owner == "by hand, ask Eve"
    assert not held.is_dead
    with pytest.raises(ValueError, match="it printed 'No space left"):
        state_of("No space left on device")
