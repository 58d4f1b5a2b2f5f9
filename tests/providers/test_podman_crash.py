"""Whenever a client with containers is killed, nothing of them is left within ten seconds."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_carthage.store.built import Built

from .traces import assert_none, traces

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

VICTIM = """
import sys, time
from pytest_carthage import Image, Layout, Machine, Network
from pytest_carthage.live.environment import AsyncLayout
from pytest_carthage.planning import make_plan
from pytest_carthage.portal import Portal
from pytest_carthage.providers.podman import PodmanProvider
from pytest_carthage.providing import Providers
from pytest_carthage.state.run import Run

DEBIAN = Image.debian("bookworm").with_packages(*sys.argv[1:])

class Some(Layout):
    lan = Network("10.0.0.0/24")
    for i in range(1, 5):
        locals()[f"m{i}"] = Machine(DEBIAN, on="podman", links={"eth0": lan.at(f".{i}")})

portal = Portal()

async def build():
    run = await Run.join("crash")
    print("joined", flush=True)
    await AsyncLayout.build(
        make_plan(Some), name="crash-some", run=run,
        providers=Providers({"podman": PodmanProvider}), portal=portal)

portal.call(build)
print("built", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("line", "delay_s"),
    [*(("joined", delay) for delay in (0.02, 0.06, 0.1, 0.15, 0.2, 0.3)), ("built", 0.0)],
)
def test_client_killed_leaves_nothing(
    line: str, delay_s: float, state: Path, debian: Built
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", VICTIM, *debian.image.all_packages],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    ) as victim:
        assert victim.stdout is not None
        while (seen := victim.stdout.readline().strip()) != line:
            assert seen, f"ended before {line!r}"
        time.sleep(delay_s)  # the moment is the parameter
        if line == "built":
            assert traces("crash-some"), "this test looks at the wrong place"
        victim.kill()
    assert_none("crash-some")
    deadline = time.monotonic() + 10
    while (state / "runs" / "crash").exists():
        assert time.monotonic() < deadline, list((state / "runs" / "crash").rglob("*"))[:20]
        time.sleep(0.05)
