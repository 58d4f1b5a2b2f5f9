"""Hosts that stay reserved when pytest has ended: reached, taken up, and given back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_carthage.state import places, possession
from tests.support.rack import Rack
from tests.support.reserving import NEEDS_RACK, deputy, leased, until

pytestmark = [*NEEDS_RACK, pytest.mark.timeout(240)]

SUITE = """\
from pytest_carthage import Here, Layout, Machine, Ssh

class Lab(Layout):
    db = Machine(on=Ssh("db1.lab", user="root", config="/dev/null", proxy_command={proxy!r},
        identity={identity!r}, host_key={key!r}, lease_s=10, on_return={step!r}))

lab = Lab.fixture()

def test_uses(lab):
    assert lab.db.run("hostname").stdout == "db1\\n"
"""

Typed = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Typed:
    """Runs a command in a folder with the suite, by a state of its own."""
    monkeypatch.setenv("CARTHAGE_STATE", str(tmp_path / "state"))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", *words], capture_output=True, text=True, cwd=tmp_path, timeout=90
        )
        done.stdout += done.stderr
        return done

    return run


@pytest.fixture
def keep(typed: Typed, own_host: Rack, tmp_path: Path) -> Callable[[str], None]:
    """Has a session leave its layout up."""

    def run(step: str) -> None:
        values = {"identity": own_host.identity, "key": own_host.host_key, "step": step}
        suite = SUITE.format(proxy=own_host.proxy_command, **values)
        (tmp_path / "test_lab.py").write_text(suite)
        done = session(typed, "--keep", "--carthage-name=kept")
        assert "1 passed" in done.stdout, done.stdout
        assert "kept-lab" in leased(own_host)

    return run


def session(typed: Typed, *words: str) -> subprocess.CompletedProcess[str]:
    return typed("pytest", "-p", "no:cacheprovider", "test_lab.py", *words)


def carthage(typed: Typed, *words: str) -> subprocess.CompletedProcess[str]:
    return typed("pytest_carthage", *words)


def test_host_that_is_kept_is_reached_taken_up_and_given_back(
    keep: Callable[[str], None], typed: Typed, own_host: Rack
) -> None:
    keep("touch /tmp/restored")
    record = own_host.run("readlink /run/lock/pytest-carthage.lease")
    listed = carthage(typed, "ls")
    assert "db" in listed.stdout
    assert carthage(typed, "exec", "kept-lab/db", "--", "hostname").stdout == "db1\n"
    until(
        lambda: own_host.run("readlink /run/lock/pytest-carthage.lease") != record,
        "its lease is not renewed",
    )
    refused = session(typed, "--carthage-name=other")
    assert "it is in use by" in refused.stdout
    assert "1 error" in refused.stdout
    assert own_host.run("ls /tmp") == ""
    used = session(typed, "--carthage-use=kept-lab")
    assert "1 passed" in used.stdout, used.stdout
    assert own_host.run("ls /tmp") == ""
    view = carthage(typed, "view", "kept-lab/db")
    assert view.returncode == 1
    assert "target 'ssh' gives none to machines of its own; try: pytest-carthage console" in (
        view.stdout
    )
    removed = carthage(typed, "rm", "kept-lab")
    assert removed.returncode == 0, removed.stdout
    assert own_host.run("ls /tmp /run/lock").split() == ["/run/lock:", "/tmp:", "restored"]


def test_host_that_is_kept_has_another_deputy_for_who_takes_it_up(
    keep: Callable[[str], None], typed: Typed, own_host: Rack
) -> None:
    keep("touch /tmp/restored")
    before = deputy(own_host)
    os.kill(before, signal.SIGKILL)
    used = session(typed, "--carthage-use=kept-lab")
    assert "1 passed" in used.stdout, used.stdout
    assert deputy(own_host) != before
    assert carthage(typed, "exec", "kept-lab/db", "--", "hostname").stdout == "db1\n"
    assert carthage(typed, "rm", "kept-lab").returncode == 0
    assert own_host.run("ls /tmp /run/lock").split() == ["/run/lock:", "/tmp:", "restored"]


def test_host_that_is_kept_and_cannot_be_restored_is_told_by_who_removes_it(
    keep: Callable[[str], None], typed: Typed, own_host: Rack
) -> None:
    keep("echo no snapshot; exit 3")
    removed = carthage(typed, "rm", "kept-lab")
    assert removed.returncode != 0
    assert "ended with status 3: no snapshot; the host is marked" in removed.stdout
    collected = carthage(typed, "gc")
    assert collected.returncode == 0, collected.stdout
    assert "ssh" not in carthage(typed, "ls").stdout
    assert '"mark": ' in leased(own_host)


def test_host_that_is_kept_by_a_run_that_was_killed_is_given_back_by_gc(
    keep: Callable[[str], None], typed: Typed, own_host: Rack, tmp_path: Path
) -> None:
    keep("touch /tmp/restored")
    (run,) = places.run_folders(tmp_path / "state" / "runs", "kept")
    supervisor = int(possession.owner(run))
    os.kill(supervisor, signal.SIGKILL)
    until(lambda: not possession.is_alive(run), "it lives")
    assert leased(own_host)
    collected = carthage(typed, "gc")
    assert collected.returncode == 0, collected.stdout
    assert own_host.run("ls /tmp /run/lock").split() == ["/run/lock:", "/tmp:", "restored"]
    until(lambda: own_host.processes() == [], f"left: {own_host.processes()}")
