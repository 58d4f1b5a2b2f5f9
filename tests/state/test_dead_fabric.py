"""An environment whose fabric has died is none that lives."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_carthage.fabric.host import privilege
from pytest_carthage.portal import Portal
from pytest_carthage.state.listing import list_environments
from pytest_carthage.state.run import Run, new_name
from tests.state.conftest import Join

pytestmark = pytest.mark.real


def begin(portal: Portal, run: Run) -> tuple[str, Path]:
    """An environment of a run: its name and its folder."""
    name = f"{run.name}-shop"
    unprivileged = not privilege.is_privileged()
    folder, fabric = portal.call(lambda: run.environment(name, {}, unprivileged=unprivileged))

    async def close() -> None:
        fabric.close()

    portal.call(close)
    return name, folder


def fabric_pid(name: str) -> int:
    """Process of the fabric of an environment."""
    (listed,) = [each for each in list_environments() if each.name == name]
    pid: int = listed.description["pid"]
    return pid


def holds(condition: Callable[[], bool], limit_s: float = 10.0) -> bool:
    """Whether a condition holds in time."""
    deadline = time.monotonic() + limit_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def is_listed(name: str) -> bool:
    return name in [each.name for each in list_environments()]


def test_environment_whose_fabric_died_is_not_listed_and_its_owner_can_end_it(
    state: Path, portal: Portal, join: Join
) -> None:
    run = join(new_name())
    name, folder = begin(portal, run)
    pid = fabric_pid(name)
    os.kill(pid, signal.SIGKILL)
    assert holds(lambda: not is_listed(name))
    assert folder.exists()  # until its owner has looked at what it left
    said = (run.folder / "supervisor.log").read_text()
    ended = f"the fabric of {name!r} (process {pid}) was ended by SIGKILL"
    assert f"{ended}, which nobody had asked for\n" in said
    assert said.count("which nobody had asked for") == 1
    portal.call(run.destroy, name)
    assert not folder.exists()


def test_kept_environment_whose_fabric_died_is_removed(
    state: Path, portal: Portal, join: Join
) -> None:
    run = join(new_name())
    name, folder = begin(portal, run)
    other, _ = begin_another(portal, run)
    portal.call(lambda: run.keep(name, for_s=None))
    os.kill(fabric_pid(name), signal.SIGKILL)
    assert holds(lambda: not folder.exists())
    assert not is_listed(name)
    assert is_listed(other)
    portal.call(run.destroy, other)


def begin_another(portal: Portal, run: Run) -> tuple[str, Path]:
    """One more environment of a run."""
    name = f"{run.name}-other"
    unprivileged = not privilege.is_privileged()
    folder, _ = portal.call(lambda: run.environment(name, {}, unprivileged=unprivileged))
    return name, folder
