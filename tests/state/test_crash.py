"""What is left after a crash: nothing, within ten seconds. Victims are processes of this test."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_carthage.errors import StateError
from pytest_carthage.state import fabrics
from pytest_carthage.state.run import Run
from tests.support.host import netns_lacks
from tests.support.leftovers import assert_nothing_left, of_this_test, world
from tests.support.unprivileged import REPOSITORY

_LIMIT_S = 10.0

VICTIM = """
    import os, sys, time
    from pathlib import Path
    from tests.support.leftovers import sleep_s
    from pytest_carthage import Layout, Machine, Network
    from pytest_carthage.live.environment import AsyncLayout
    from pytest_carthage.planning import make_plan
    from pytest_carthage.portal import Portal
    from pytest_carthage.providers.netns import NetnsProvider
    from pytest_carthage.providing import Providers
    from pytest_carthage.state.run import Run

    SLEEP_S = sleep_s(Path(os.environ["CARTHAGE_STATE"]))

    class Many(Layout):
        lan = Network("10.0.0.0/24")
        for i in range(1, 31):
            locals()[f"m{i}"] = Machine(links={"eth0": lan.at(f".{i}")}, command=["sleep", SLEEP_S])

    portal = Portal()

    async def build(number):
        run = await Run.join(sys.argv[1], token="the same")
        print("joined", flush=True)
        return await AsyncLayout.build(
            make_plan(Many), name=f"{run.name}-{number}", run=run,
            providers=Providers({"netns": NetnsProvider}), portal=portal)

    aio = portal.call(build, sys.argv[2])
    print("built", flush=True)
    if "keep" in sys.argv:
        portal.call(lambda: aio.keep(for_s=float(sys.argv[4])))
        print("kept", flush=True)
        sys.exit()
    sys.stdin.readline()
    print("closing", flush=True)
    portal.call(aio.close)
    print("closed", flush=True)
    time.sleep(60)
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    problems = netns_lacks()
    if problems:
        pytest.skip("; ".join(map(str, problems)))
    monkeypatch.setenv("CARTHAGE_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def start(state: Path, tmp_path: Path) -> Iterator[Start]:
    script = tmp_path / "victim.py"
    script.write_text(textwrap.dedent(VICTIM))
    started: list[subprocess.Popen[str]] = []

    def begin(run: str, number: str = "1", *more: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(script), run, number, *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def await_line(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    while True:
        got = process.stdout.readline()
        assert got, f"ended before {line!r}"
        if got.strip() == line:
            return


@pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.05, 0.1, 0.2])
def test_client_killed_while_building_leaves_nothing(
    start: Start, state: Path, delay_s: float
) -> None:
    victim = start("crash")
    await_line(victim, "joined")
    time.sleep(delay_s)  # the moment is the parameter
    victim.kill()
    victim.wait()
    assert_nothing_left(state)


def test_client_killed_with_machines_up_leaves_nothing(start: Start, state: Path) -> None:
    victim = start("crash")
    await_line(victim, "built")
    seen = world(state)
    assert len(seen["sleepers"]) == 30  # type: ignore[arg-type]
    assert {"carthage-super", "carthage-fabric"} <= set(of_this_test(state).values())
    victim.kill()
    victim.wait()
    assert_nothing_left(state)


@pytest.mark.parametrize("delay_s", [0.0, 0.005, 0.02])
def test_client_killed_while_tearing_down_leaves_nothing(
    start: Start, state: Path, delay_s: float
) -> None:
    victim = start("crash")
    await_line(victim, "built")
    assert victim.stdin is not None
    victim.stdin.write("\n")
    victim.stdin.flush()
    await_line(victim, "closing")
    time.sleep(delay_s)
    victim.kill()
    victim.wait()
    assert_nothing_left(state)


def test_one_client_killed_leaves_the_other_clients_environment(start: Start, state: Path) -> None:
    one, two = start("crash", "one"), start("crash", "two")
    await_line(one, "built")
    await_line(two, "built")
    assert sum(name == "carthage-super" for name in of_this_test(state).values()) == 1
    one.kill()
    one.wait()
    deadline = time.monotonic() + _LIMIT_S
    envs = state / "runs" / "crash" / "envs"
    while [p.name for p in envs.iterdir()] != ["crash-two"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(world(state)["sleepers"]) == 30  # type: ignore[arg-type]
    two.kill()
    two.wait()
    assert_nothing_left(state)


def supervisor_of(state: Path) -> int:
    return next(pid for pid, name in of_this_test(state).items() if name == "carthage-super")


def test_supervisor_killed_takes_the_machines_along_and_gc_removes_the_rest(
    start: Start, state: Path
) -> None:
    victim = start("crash")
    await_line(victim, "built")
    os.kill(supervisor_of(state), signal.SIGKILL)
    deadline = time.monotonic() + _LIMIT_S
    while world(state)["sleepers"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    victim.kill()
    victim.wait()
    assert world(state)["folders"] == ["crash"]
    code = "from pytest_carthage.state.leftovers import collect_garbage; print(collect_garbage())"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "environment crash-1" in out.stdout
    assert_nothing_left(state)


def test_supervisor_terminated_cleans_up_in_order(start: Start, state: Path) -> None:
    victim = start("crash")
    await_line(victim, "built")
    os.kill(supervisor_of(state), signal.SIGTERM)
    victim.kill()
    victim.wait()
    assert_nothing_left(state)


def test_name_of_a_dead_run_is_taken_over_and_cleaned(start: Start, state: Path) -> None:
    victim = start("crash")
    await_line(victim, "built")
    os.kill(supervisor_of(state), signal.SIGKILL)
    victim.kill()
    victim.wait()
    again = start("crash")
    await_line(again, "built")
    again.kill()
    again.wait()
    assert_nothing_left(state)


def test_name_of_a_living_run_is_refused_and_says_whose_it_is(start: Start, state: Path) -> None:
    victim = start("crash")
    await_line(victim, "built")

    async def other() -> None:
        await Run.join("crash")

    with pytest.raises(
        StateError,
        match=rf"the name 'crash' is in use by a run of process {victim.pid} "
        r"\(its environments: crash-1\); choose another --carthage-name",
    ):
        asyncio.run(other())
    assert len(world(state)["sleepers"]) == 30  # type: ignore[arg-type]
    victim.kill()
    victim.wait()
    assert_nothing_left(state)


def test_kept_environment_outlives_its_client_and_ends_at_its_expiry(
    start: Start, state: Path
) -> None:
    victim = start("crash", "1", "keep", "4")
    await_line(victim, "kept")
    victim.wait()
    time.sleep(1)
    assert len(world(state)["sleepers"]) == 30  # type: ignore[arg-type]
    assert_nothing_left(state)


def test_refusal_of_the_kernel_keeps_its_number_through_the_supervisor() -> None:
    error = fabrics._as_told(fabrics._to_tell(OSError(1, "unshare")).decode())
    assert (error.errno, str(error)) == (1, "[Errno 1] unshare")
    assert fabrics._as_told("").errno is None
    assert str(fabrics._as_told("")) == "the fabric ended at once"
