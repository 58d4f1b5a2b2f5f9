"""A live layout for Ansible without namespaces: the real agent, on the host itself."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage.planning.plan import PlannedMachine
from tests.live.conftest import build, portal, recorder, state
from tests.work.ansible.live import Stand, StandIn, plan_of

STANDIN = Path(__file__).with_name("standin.py")


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    """Makes a stand-in for a live layout of some planned machines."""
    with contextlib.ExitStack() as stack:

        def make(*machines: PlannedMachine, reachable: tuple[str, ...] | None = None) -> StandIn:
            folder = tmp_path / "environment"
            folder.mkdir()
            names = [one.name for one in machines] if reachable is None else list(reachable)
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, str(STANDIN), str(folder / "fabric.sock"), *names],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env={**os.environ, "PYTHONPATH": str(STANDIN.parents[3])},
                )
            )
            assert process.stdin is not None
            assert process.stdout is not None
            stack.callback(process.stdin.close)
            assert process.stdout.readline() == b"listening\n"
            return StandIn("test-shop", folder, plan_of(*machines))

        yield make
