"""State folders of a test's own, and runs that end with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_carthage.portal import Portal
from pytest_carthage.state.run import Run
from tests.state.huts import huts  # a fixture
from tests.support.host import netns_lacks

Join = Callable[..., Run]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of this test's own, on a host that can build what stands in it."""
    problems = netns_lacks()
    if problems:
        pytest.skip("; ".join(map(str, problems)))
    monkeypatch.setenv("CARTHAGE_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def portal() -> Iterator[Portal]:
    portal = Portal()
    yield portal
    portal.close()


@pytest.fixture
def join(portal: Portal) -> Iterator[Join]:
    """Joins runs, and leaves them at the end of the test."""
    runs: list[Run] = []

    def enter(name: str, *, token: str = "the same") -> Run:
        runs.append(portal.call(Run.join, name, token=token))
        return runs[-1]

    async def leave() -> None:
        for run in runs:
            run.close()

    yield enter
    portal.call(leave)
