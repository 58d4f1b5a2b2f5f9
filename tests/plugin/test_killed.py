"""pytest is killed outright at every moment of a session: nothing is left within ten seconds."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.leftovers import assert_nothing_left, sleep_s, world

from .conftest import Suite

CONFTEST = """
import os, time
from pathlib import Path
from pytest_carthage import Layout, Machine, Network, command, stage

SLEEP_S = os.environ["SLEEP_S"]

def reached(moment):
    Path(moment).touch()

class Slow(Layout):
    lan = Network("10.0.0.0/24")
    quick = Machine(links={"eth0": lan.at(".1")}, command=["sleep", SLEEP_S])
    late = Machine(
        links={"eth0": lan.at(".2")},
        command=["sleep", SLEEP_S],
        wait_for=[command("sleep 1")] if os.environ["MOMENT"] == "building" else [],
    )

slow = Slow.fixture()

@stage
async def imported(slow):
    reached("stage")
    if os.environ["MOMENT"] == "stage":
        await slow.quick.aio.run(f"sleep {SLEEP_S}")

import pytest

def pytest_runtest_teardown(item, nextitem):
    reached("teardown")
"""

TEST = """
import os
from conftest import SLEEP_S, reached

def test_it(slow, imported):
    reached("test")
    if os.environ["MOMENT"] == "test":
        slow.late.run(f"sleep {SLEEP_S}")
"""


@pytest.mark.parametrize(
    ("moment", "delay_s"),
    [
        ("building", 0.1),
        ("stage", 0.1),
        ("test", 0.1),
        ("teardown", 0.0),
        ("teardown", 0.005),
        ("teardown", 0.02),
    ],
)
def test_pytest_killed_leaves_nothing(
    suite: Suite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, moment: str, delay_s: float
) -> None:
    state = Path(os.environ["CARTHAGE_STATE"])
    suite.pytester.makeconftest(CONFTEST)
    suite.write(test_it=TEST)
    victim = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", *suite.options()],
        cwd=suite.path,
        env={**os.environ, "MOMENT": moment, "SLEEP_S": sleep_s(state)},
        stdout=subprocess.DEVNULL,
    )
    with victim:
        if moment == "building":
            await_(lambda: bool(world(state)["sleepers"]))
        else:
            await_((suite.path / moment).exists)
        time.sleep(delay_s)  # the moment is the parameter
        if moment != "teardown":
            assert world(state)["sleepers"], "this test looks at the wrong place"
        victim.kill()
    assert_nothing_left(state)


def await_(holds: object) -> None:
    deadline = time.monotonic() + 30
    assert callable(holds)
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)
