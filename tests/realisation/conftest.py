"""Real environments on the netns target, destroyed at the end of each test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_carthage import Layout
from pytest_carthage.planning import make_plan
from pytest_carthage.portal import Portal
from pytest_carthage.provider import Provider
from pytest_carthage.providers.netns import NetnsProvider
from pytest_carthage.realisation import AsyncEnvironment, Environment, Providers
from pytest_carthage.report.events import Recorder
from pytest_carthage.state.run import Run, new_name
from tests.support.host import netns_lacks

Build = Callable[..., Environment]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of this test's own."""
    folder = tmp_path / "state"
    monkeypatch.setenv("CARTHAGE_STATE", str(folder))
    return folder


@pytest.fixture
def portal() -> Iterator[Portal]:
    portal = Portal()
    yield portal
    portal.close()


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def build(state: Path, portal: Portal, recorder: Recorder) -> Iterator[Build]:
    """Build a layout; what is still there at the end of the test is destroyed."""
    problems = netns_lacks()
    if problems:
        pytest.skip("; ".join(map(str, problems)))
    environments: list[Environment] = []
    runs: list[Run] = []

    def make(
        layout: type[Layout], *, providers: dict[str, Callable[[], Provider]] | None = None
    ) -> Environment:
        plan = make_plan(layout)

        async def go() -> AsyncEnvironment:
            run = await Run.join(new_name())
            runs.append(run)
            return await AsyncEnvironment.build(
                plan,
                name=f"{run.name}-{layout.__name__.lower()}",
                run=run,
                providers=Providers(providers or {"netns": NetnsProvider}),
                portal=portal,
                reporter=recorder,
                subscribers=layout.subscribers,
            )

        environment = Environment(portal.call(go))
        environments.append(environment)
        return environment

    yield make
    for environment in environments:
        environment.close()

    async def leave() -> None:
        for run in runs:
            run.close()

    portal.call(leave)


@pytest.fixture
def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
