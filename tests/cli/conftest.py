"""A live environment for the commands, in a state folder of the test's own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_carthage.cli import main
from pytest_carthage.state.listing import destroy_environment, list_environments
from tests.support.host import netns_lacks

LAYOUTS = '''
from pytest_carthage import Layout, Machine, Network, port


class Pair(Layout):
    """Two machines."""

    lan = Network("10.0.0.0/24")
    one = Machine(links={"eth0": lan.at(".1")}, command="echo born; exec sleep 1000")
    two = Machine(links={"eth0": lan.at(".2", gateway=".1")}, after=one)


class Single(Layout):
    one = Machine()


class Late(Layout):
    one = Machine(command="echo no port; exec sleep 1000", wait_for=port(80), ready_timeout_s=0.2)


class Broken(Layout):
    one = Machine(command=["/no/such/program"])


class Guest(Layout):
    one = Machine(on="cloud")
'''

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder, with ``layouts.py``; what is alive at the end is destroyed."""
    monkeypatch.setenv("CARTHAGE_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "layouts.py").write_text(LAYOUTS)
    yield tmp_path
    for environment in list_environments():
        # a test that undoes all patches would have everybody's destroyed
        assert environment.folder.is_relative_to(tmp_path)
        destroy_environment(environment.name)
    runs = tmp_path / "state/runs"
    deadline = time.monotonic() + 10
    while runs.exists() and any(path.is_dir() for path in runs.iterdir()):
        assert time.monotonic() < deadline, list(runs.iterdir())
        time.sleep(0.02)


@pytest.fixture
def up(folder: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Builds a layout; returns what ``up`` printed."""
    problems = netns_lacks()
    if problems:
        pytest.skip("; ".join(map(str, problems)))

    def build(layout: str = "layouts.py:Pair", *, name: str = "test", quiet: bool = True) -> str:
        capfd.readouterr()
        assert main(["up", layout, "--name", name, *(["--quiet"] if quiet else [])]) == 0
        return capfd.readouterr().out

    return build


@pytest.fixture
def command(folder: Path) -> Run:
    """Runs ``pytest-carthage`` in a process of its own."""

    def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pytest_carthage", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=False,
        )

    return run
