"""Joining a run: from many tasks at once, without a stop of the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_carthage.errors import StateError
from pytest_carthage.state import places, starting
from pytest_carthage.state.run import Run
from tests.support.leftovers import assert_nothing_left, of_this_test


@pytest.mark.timeout(30)
def test_join_twice_at_once_on_one_loop_gives_one_supervisor(state: Path) -> None:
    async def both() -> tuple[Path, Path]:
        async with asyncio.timeout(20):
            one, two = await asyncio.gather(
                Run.join("pair", token="the same"), Run.join("pair", token="the same")
            )
        one.close()
        two.close()
        return one.folder, two.folder

    one, two = asyncio.run(both())
    assert one == two == state / "runs/pair"
    assert_nothing_left(state)


@pytest.mark.timeout(30)
def test_join_of_a_slow_supervisor_leaves_the_loop_to_others(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        starting, "_BOOTSTRAP", "import time; time.sleep(1.5); " + starting._BOOTSTRAP
    )
    longest_s = 0.0

    async def tick() -> None:
        nonlocal longest_s
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.01)
            longest_s, last = max(longest_s, time.monotonic() - last), time.monotonic()

    async def join() -> None:
        ticking = asyncio.create_task(tick())
        await asyncio.sleep(0.05)
        (await Run.join("slow")).close()
        ticking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await ticking

    asyncio.run(join())
    assert longest_s < 0.75
    assert_nothing_left(state)


def test_supervisor_that_does_not_start_is_told_of_with_what_it_printed(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "_BOOTSTRAP", "raise SystemExit('no way')")
    with pytest.raises(
        StateError,
        match=r"run 'ci': its supervisor did not start: it ended; it printed: no way",
    ):
        asyncio.run(Run.join("ci"))
    assert_nothing_left(state)


def test_supervisor_that_is_never_ready_is_given_up(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "_BOOTSTRAP", "import time; time.sleep(60)")
    monkeypatch.setattr(starting, "_START_S", 0.5)
    with pytest.raises(StateError, match=r"did not start: no word in 0\.5 s; it printed: nothing"):
        asyncio.run(Run.join("ci"))
    assert_nothing_left(state)


def test_join_that_is_cancelled_leaves_no_supervisor_and_the_gate_open(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(starting, "_BOOTSTRAP", "import time; time.sleep(60)")

        async def give_up() -> None:
            async with asyncio.timeout(0.5):
                await Run.join("ci")

        with pytest.raises(TimeoutError):
            asyncio.run(give_up())

    async def again() -> None:
        (await Run.join("ci")).close()

    asyncio.run(again())
    assert_nothing_left(state)


def test_join_waits_for_the_gate_without_stopping_the_loop(state: Path) -> None:
    async def join() -> list[str]:
        order: list[str] = []
        root = places.runs_root()
        async with starting.alone(root):
            joining = asyncio.create_task(Run.join("ci"))
            await asyncio.sleep(0.2)
            order.append("gate left" if not joining.done() else "joined")
        (await joining).close()
        return [*order, "joined"]

    assert asyncio.run(join()) == ["gate left", "joined"]
    assert_nothing_left(state)


def test_processes_that_join_at_once_have_one_supervisor(state: Path) -> None:
    code = (
        "import asyncio, sys\n"
        "from pytest_carthage.state.run import Run\n"
        "async def join():\n"
        "    run = await Run.join('ci', token='the same')\n"
        "    print(run.id, run.folder.name, flush=True)\n"
        "    sys.stdin.read()\n"
        "asyncio.run(join())\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    lines = [process.stdout.readline() for process in processes if process.stdout is not None]
    supervisors = [name for name in of_this_test(state).values() if name == "carthage-super"]
    complaints = [process.communicate("")[1] for process in processes]
    assert complaints == [""] * len(processes)
    assert len(set(lines)) == 1
    assert lines[0].split()[1] == "ci"
    assert len(supervisors) == 1
    assert_nothing_left(state)
