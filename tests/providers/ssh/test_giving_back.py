"""Hosts that are given back: restored, or else told of, to who used them and to who comes next."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import Here, Layout, Machine
from pytest_carthage.errors import CreationError, RestoreError
from pytest_carthage.events import Recorder
from tests.support.layouts import Build, end
from tests.support.rack import Rack, rack
from tests.support.reserving import NEEDS_RACK, alone, leased, live, refused, until

pytestmark = NEEDS_RACK


def test_host_is_restored_when_it_is_given_back(build: Build, host: Rack, tmp_path: Path) -> None:
    steps = ("rm /tmp/spoiled", Here(f"echo $CARTHAGE_HOST > {tmp_path}/restored"))
    with live(build, host.settings(on_return=steps)) as lab:
        lab.db.write_text("/tmp/spoiled", "")
    assert host.run("ls /tmp") == ""
    assert (tmp_path / "restored").read_text() == "db1.lab\n"


def test_host_that_cannot_be_restored_is_an_error_and_later_runs_are_told_first(
    build: Build, own_host: Rack, recorder: Recorder
) -> None:
    on = own_host.settings(on_return="echo no snapshot >&2; exit 3")
    lab = build(alone(on))
    with pytest.raises(RestoreError, match=r"machine 'db': ssh root@db1\.lab: on_return step"):
        end(lab)
    told = [event.text for event in recorder.events if event.kind == "failed"]
    assert "no snapshot; the host is marked, and the next run says so" in told[-1]
    text = refused(build, own_host.settings())
    assert "it is marked by" in text
    assert "ended with status 3: no snapshot; try: restore it, then pytest-carthage leases" in text
    assert "no snapshot" in refused(build, on)
    with live(build, own_host.settings(on_return="true")) as lab:
        assert lab.db.run("true").ok
    with live(build, own_host.settings()) as lab:
        assert lab.db.run("true").ok


def test_steps_that_take_too_long_mark_the_host_and_are_ended(build: Build, own_host: Rack) -> None:
    on = own_host.settings(on_return="sleep 1234; true", return_timeout_s=1)
    over = "on_return step 'sleep 1234; true' was ended: return_timeout_s=1 is over"
    lab = build(alone(on))
    with pytest.raises(RestoreError, match=over):
        end(lab)
    assert over in refused(build, own_host.settings())
    assert over in refused(build, on)  # which tries to restore it before it is used
    until(lambda: "sleep 1234" not in str(own_host.processes()), "it goes on")


def test_host_beside_one_that_cannot_be_restored_is_given_back(
    build: Build, own_host: Rack, tmp_path: Path
) -> None:
    with rack(tmp_path / "web1", name="web1") as other:
        members = {
            "db": Machine(on=own_host.settings(on_return="exit 3")),
            "web": Machine(on=other.settings(on_return="touch /tmp/restored")),
        }
        lab = build(Layout.of("Lab", members))
        with pytest.raises(RestoreError, match=r"^machine 'db': .* ended with status 3"):
            end(lab)
        assert other.run("ls /tmp /run/lock").split() == ["/run/lock:", "/tmp:", "restored"]
    assert '"mark": ' in leased(own_host)


def test_host_that_is_removed_and_cannot_be_restored_is_told_and_gone(
    build: Build, own_host: Rack
) -> None:
    with live(build, own_host.settings(on_return="exit 3")) as lab:
        with pytest.raises(RestoreError, match="the host is marked"):
            lab.remove("db")
        assert "db" not in lab.aio.plan.machines


def test_cause_of_a_layout_that_is_not_built_is_told_before_what_is_not_restored(
    build: Build, own_host: Rack, recorder: Recorder
) -> None:
    db = Machine(on=own_host.settings(on_return="exit 3"))
    other_key = "SHA256:" + "A" * 43
    late = Machine(on=own_host.settings(host_key=other_key), after=[db])
    members = {"db": db, "late": late}
    with pytest.raises(CreationError, match="its host key has changed") as caught:
        build(Layout.of("Lab", members))
    assert "the host is marked" in "".join(caught.value.__notes__)


def test_host_whose_mark_has_no_room_is_told_with_what_has_failed(
    build: Build, own_host: Rack
) -> None:
    # the file grows until there is no room, and the disk is full when the host is to be marked
    on = own_host.settings(on_return="cat /dev/zero > /run/full; exit 3")
    lab = build(alone(on))
    with pytest.raises(Exception, match="something of it could not be destroyed") as caught:
        end(lab)
    assert "ended with status 3" in str(caught.value)
    assert "cannot be marked: " in str(caught.value)
    assert "No space left on device" in str(caught.value)
    assert leased(own_host).startswith('{"id": ')  # nobody else takes it for free


SUITE = """\
from pytest_carthage import Layout, Machine, Ssh

class Lab(Layout):
    db = Machine(on=Ssh("db1.lab", user="root", config="/dev/null",
        proxy_command={proxy!r}, identity={identity!r}, host_key={key!r}, on_return={step!r}))

lab = Lab.fixture()

def test_uses(lab):
    assert lab.db.run("true").ok
"""


def run_suite(folder: Path, host: Rack, step: str, *words: str) -> tuple[int, str]:
    """Run a suite whose host is restored by a step; returns its status and what it prints."""
    folder.mkdir(exist_ok=True)
    values: dict[str, Any] = {"identity": host.identity, "key": host.host_key, "step": step}
    suite = SUITE.format(proxy=host.proxy_command, **values)
    (folder / "test_lab.py").write_text(suite)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words, str(folder)],
        env={**os.environ, "CARTHAGE_STATE": str(folder / "state")},
        capture_output=True,
        text=True,
        cwd=folder,
    )
    return done.returncode, done.stdout + done.stderr


def test_run_whose_host_cannot_be_restored_fails_and_so_does_the_next_one(
    own_host: Rack, tmp_path: Path
) -> None:
    status, said = run_suite(tmp_path / "suite", own_host, "echo no snapshot; exit 3")
    assert status == 1, said
    assert "1 passed, 1 error" in said
    assert "ERROR at teardown of test_uses" in said
    told = "its teardown failed: machine 'db': ssh root@db1.lab: on_return step"
    assert told in said
    assert "what is left of it is removed" not in said  # nothing is
    status, said = run_suite(tmp_path / "suite", own_host, "exit 4")
    assert status == 1, said
    assert "1 error" in said
    assert "it was not given back as it should be, and on_return step 'exit 4' ended" in said
    assert run_suite(tmp_path / "suite", own_host, "true")[0] == 0
    assert own_host.run("ls /run/lock") == ""
