"""Runs whose processes were killed: what is left of them goes, with them or with a later run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from pytest_carthage.fabric.host import privilege
from pytest_carthage.portal import Portal
from pytest_carthage.state import possession, starting
from pytest_carthage.state.leftovers import leftovers
from pytest_carthage.state.run import Run
from tests.state.conftest import Join
from tests.state.dead import DeadRun
from tests.support.leftovers import assert_nothing_left, of_this_test
from tests.support.unprivileged import REPOSITORY

_LIMIT_S = 10.0

#: a process that joins a run, and a supervisor that takes its time at some moment
STARTER = """
    import asyncio, sys
    from pytest_carthage.state import starting
    from pytest_carthage.state.run import Run

    slow = "import time; before = {moment}; old = before[0].{name}; "
    slow += "setattr(before[0], {name!r}, lambda *a, **k: (open({mark!r}, 'w').close(), "
    slow += "time.sleep(1.5), old(*a, **k))[2]); "
    code = starting._BOOTSTRAP.replace("import main;", "import main; " + slow)
    assert code != starting._BOOTSTRAP
    starting._BOOTSTRAP = code
    asyncio.run(Run.join("killed"))
"""
#: where a supervisor stands still: module and function that it calls
MOMENTS = {
    "before its folder": ("[__import__('pathlib').Path]", "mkdir"),
    "before its lock": (
        "[__import__('pytest_carthage.state.possession').state.possession]",
        "take",
    ),
    "before its journal": (
        "[__import__('pytest_carthage.state.journal').state.journal]",
        "Journal",
    ),
    "before its word": (
        "[__import__('pytest_carthage.state.supervisor').state.supervisor]",
        "_log_to",
    ),
    "after its word": ("[__import__('gc')]", "freeze"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_starter_that_is_killed_before_its_supervisor_is_ready_leaves_nothing(
    state: Path, tmp_path: Path, moment: str
) -> None:
    place, name = MOMENTS[moment]
    mark = tmp_path / "reached"
    script = tmp_path / "starter.py"
    script.write_text(
        textwrap.dedent(STARTER)
        .replace("{moment}", place)
        .replace("{name!r}", repr(name))
        .replace("{name}", name)
        .replace("{mark!r}", repr(str(mark)))
    )
    starter = subprocess.Popen(
        [sys.executable, str(script)], env={**os.environ, "PYTHONPATH": str(REPOSITORY)}
    )
    with starter:
        deadline = time.monotonic() + 20
        while not mark.exists():
            assert starter.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        starter.kill()
    assert of_this_test(state), "this test looks at the wrong place"
    assert_nothing_left(state)


def test_supervisor_that_is_killed_before_it_is_ready_leaves_nothing(
    state: Path, portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = starting._BOOTSTRAP.replace(
        "import main;",
        "import main, os; from pytest_carthage.state import supervisor; "
        "supervisor._log_to = lambda path: os.kill(os.getpid(), 9);",
    )
    monkeypatch.setattr(starting, "_BOOTSTRAP", code)
    with pytest.raises(Exception, match="its supervisor did not start: it ended; it printed: noth"):
        portal.call(Run.join, "killed")
    assert_nothing_left(state)


def kill_supervisor(state: Path) -> None:
    (pid,) = [pid for pid, name in of_this_test(state).items() if name == "carthage-super"]
    os.kill(pid, signal.SIGKILL)


def begin(portal: Portal, run: Run, name: str) -> Path:
    unprivileged = not privilege.is_privileged()
    folder, fabric = portal.call(lambda: run.environment(name, {}, unprivileged=unprivileged))

    async def close() -> None:
        fabric.close()

    portal.call(close)
    return folder


def test_client_removes_what_its_killed_supervisor_left(
    state: Path, portal: Portal, join: Join
) -> None:
    run = join("orphan")
    begin(portal, run, "orphan-shop")
    kill_supervisor(state)
    portal.call(run.leave)
    assert not run.folder.exists()
    assert_nothing_left(state)


def test_last_client_sees_the_end_of_its_run(state: Path, portal: Portal, join: Join) -> None:
    first, last = join("pair"), join("pair")
    portal.call(first.leave)
    assert possession.is_alive(last.folder)
    portal.call(last.leave)
    assert not last.folder.exists()
    assert of_this_test(state) == {}


def test_run_with_a_kept_environment_is_left_alone(state: Path, portal: Portal, join: Join) -> None:
    run = join("kept")
    folder = begin(portal, run, "kept-shop")
    portal.call(lambda: run.keep("kept-shop", for_s=3600))
    began = time.monotonic()
    portal.call(run.leave)
    assert time.monotonic() - began < 5  # it does not wait for an end that does not come
    assert folder.exists()
    again = join("kept")
    portal.call(again.destroy, "kept-shop")


def await_gone(folder: Path) -> None:
    deadline = time.monotonic() + _LIMIT_S
    while folder.exists():
        assert time.monotonic() < deadline, list(folder.iterdir())
        time.sleep(0.02)


def test_run_removes_what_dead_ones_left_while_it_goes_on(state: Path, join: Join) -> None:
    dead = [DeadRun(state, name) for name in ("dead", "other", "other.2")]
    unborn = state / "runs/unborn"  # its maker was killed before it had locked it
    unborn.mkdir()
    run = join("later")
    for folder in [*(each.folder for each in dead), unborn]:
        await_gone(folder)
    assert run.folder.exists()


def test_run_leaves_alone_what_is_alive_used_or_stuck(
    state: Path, portal: Portal, join: Join
) -> None:
    kept = join("kept")
    portal.call(lambda: _keep(kept))
    used, stuck, dead = (DeadRun(state, name) for name in ("used", "stuck", "dead"))
    stuck.fail(stuck.intend(stuck.identity("web", kind="moon")), "eclipse")
    use = possession.use(used.folder)
    try:
        join("later")
        await_gone(dead.folder)
        assert used.folder.exists()  # its client writes a bundle of what is there
        assert [left.tries for left in leftovers()] == [1]
        assert (kept.folder / "envs/kept-shop").exists()
    finally:
        os.close(use)
    portal.call(kept.destroy, "kept-shop")


async def _keep(run: Run) -> None:
    _, fabric = await run.environment("kept-shop", {}, unprivileged=not privilege.is_privileged())
    fabric.close()
    await run.keep("kept-shop", for_s=None)


def test_run_removes_nothing_of_another_state_folder(
    state: Path, tmp_path: Path, join: Join
) -> None:
    own, other = DeadRun(state, "own"), DeadRun(tmp_path / "elsewhere", "other")
    join("later")
    await_gone(own.folder)
    assert other.folder.exists()


def test_child_that_is_killed_while_it_destroys_is_followed_by_another(
    state: Path, portal: Portal, join: Join
) -> None:
    run = join("busy")
    folder = begin(portal, run, "busy-shop")
    (pid,) = [pid for pid, name in of_this_test(state).items() if name == "carthage-super"]
    os.kill(pid, signal.SIGSTOP)  # so that what it is asked comes after we have looked
    deadline = time.monotonic() + _LIMIT_S
    killed: set[int] = set()

    def kill_children() -> None:
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(OSError):
                if "carthage-super" in Path(f"/proc/{child}/comm").read_text():
                    os.kill(int(child), signal.SIGKILL)
                    killed.add(int(child))

    async def destroy() -> None:
        destroying = asyncio.create_task(run.destroy("busy-shop"))
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGCONT)
        while not killed and not destroying.done():
            assert time.monotonic() < deadline
            kill_children()
            await asyncio.sleep(0)
        await destroying

    portal.call(destroy)
    assert killed
    assert not folder.exists()
