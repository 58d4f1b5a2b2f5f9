"""Real environments of containers, and a Debian image that all of their tests share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_carthage import Image, Layout
from pytest_carthage.images.builder import ensure
from pytest_carthage.images.store import Built
from pytest_carthage.planning import make_plan
from pytest_carthage.portal import Portal
from pytest_carthage.providers.netns import NetnsProvider
from pytest_carthage.providers.podman import PodmanProvider
from pytest_carthage.realisation import AsyncEnvironment, Environment, Providers
from pytest_carthage.report.events import Recorder
from pytest_carthage.state.run import Run, new_name

Build = Callable[[type[Layout]], Environment]

#: built once on a host, by whichever test needs it first
DEBIAN = Image.debian(
    "bookworm",
    packages=["dbus", "iproute2", "iputils-ping", "procps", "python3-minimal", "systemd-sysv"],
    name="debian",
)


@pytest.fixture
def podman() -> PodmanProvider:
    """The provider, on a host that has what it needs."""
    provider = PodmanProvider()
    problems = provider.check()
    if problems:
        pytest.skip("; ".join(map(str, problems)))
    return provider


@pytest.fixture(scope="session")
def built() -> Built:
    """:data:`DEBIAN`, in this host's own store."""
    portal = Portal()
    try:
        return portal.call(lambda: ensure(DEBIAN, portal=portal, note=lambda who, text: None))
    finally:
        portal.close()


@pytest.fixture
def debian(podman: PodmanProvider, built: Built) -> Built:
    """:data:`DEBIAN`, which is there."""
    return built


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of this test's own."""
    folder = tmp_path / "state"
    monkeypatch.setenv("CARTHAGE_STATE", str(folder))
    return folder


@pytest.fixture
def build(state: Path, debian: Built) -> Iterator[Build]:
    """Build a layout; what is still there at the end of the test is destroyed."""
    portal = Portal()
    environments: list[Environment] = []
    runs: list[Run] = []

    def make(layout: type[Layout]) -> Environment:
        async def go() -> AsyncEnvironment:
            run = await Run.join(new_name())
            runs.append(run)
            return await AsyncEnvironment.build(
                make_plan(layout),
                name=f"{run.name}-{layout.__name__.lower()}",
                run=run,
                providers=Providers({"netns": NetnsProvider, "podman": PodmanProvider}),
                portal=portal,
                reporter=Recorder(),
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
    portal.close()
