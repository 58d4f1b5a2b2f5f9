"""Whoever has machines with images dies, and nothing of them is left."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_carthage.providers.netns import NetnsProvider
from pytest_carthage.store.built import Built

_CODE = """\
import contextlib, os, signal
from pytest_carthage import Layout, Machine, Network
from pytest_carthage.portal import Portal
from pytest_carthage.providers.netns import NetnsProvider
from tests.providers.conftest import DEBIAN
from tests.support.layouts import building

class Two(Layout):
    lan = Network("10.0.0.0/24")
    a = Machine(DEBIAN, links={"eth0": lan.at(".1")})
    b = Machine(DEBIAN, links={"eth0": lan.at(".2")}, init="systemd")

portal = Portal()
with building(portal, {"netns": NetnsProvider}) as build:
    two = build(Two)
    print(two.aio.folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def _left(environment: Path) -> list[str]:
    """What there still is of an environment: its folder, control groups, mounts."""
    found = [str(environment)] if environment.exists() else []
    found += [
        str(path)
        for pattern in (
            f"*/pytest-carthage-{environment.name}-*",
            f"pytest-carthage-{environment.name}-*",
        )
        for path in Path("/sys/fs/cgroup").glob(pattern)
    ]
    found += [
        line
        for line in Path("/proc/self/mounts").read_text().splitlines()
        if str(environment) in line
    ]
    return found


@pytest.mark.real
def test_client_killed_leaves_nothing(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if NetnsProvider().check():
        pytest.skip("no machines here")
    monkeypatch.setenv("CARTHAGE_STATE", str(tmp_path / "state"))
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run(
        [sys.executable, "-c", _CODE], cwd=root, capture_output=True, text=True, check=False
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    environment = Path(run.stdout.strip())
    deadline = time.monotonic() + 20
    while left := _left(environment):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
