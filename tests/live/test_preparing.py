"""What a provider does before its first machine in an environment, and after its last."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage import CreationError, HostError, Layout, Machine
from pytest_carthage.errors import Problem
from pytest_carthage.live.environment import AsyncLayout
from pytest_carthage.planning import make_plan
from pytest_carthage.planning.plan import PlannedMachine
from pytest_carthage.portal import Portal
from pytest_carthage.provider import Context, Identity
from pytest_carthage.providing import Providers
from pytest_carthage.testing import FakeMeans, FakeProvider, FakeRun, World


class Clouded(FakeProvider):
    """Has a network to make first."""

    def __init__(self, fails: str = "") -> None:
        super().__init__(kind="cloud")
        self.steps: list[str] = []
        self.fails = fails

    async def prepare(self, context: Context) -> None:
        assert context.identity.name == ""
        if self.fails:
            raise HostError([Problem(who="cloud", what=self.fails, remedy="pay")])
        self.steps.append("prepare")

    async def end(self, context: Context) -> None:
        self.steps.append("end")

    async def create(self, planned: PlannedMachine, context: Context) -> FakeMeans:
        self.steps.append(f"create {planned.name}")
        return await super().create(planned, context)

    async def destroy(self, identity: Identity) -> None:
        self.steps.append(f"destroy {identity.name}")
        await super().destroy(identity)


class Pair(Layout):
    target = "cloud"
    one = Machine()
    two = Machine(after="one")


@pytest.fixture
def portal() -> Iterator[Portal]:
    portal = Portal()
    yield portal
    portal.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def build(provider: Clouded, portal: Portal, folder: Path) -> AsyncLayout:
    providers = Providers({"cloud": lambda: provider})
    run = FakeRun(folder, World())

    async def go() -> AsyncLayout:
        return await AsyncLayout.build(
            make_plan(Pair, targets=providers.traits),
            name="pair",
            run=run,
            providers=providers,
            portal=portal,
        )

    return portal.call(go)


def test_environment_is_prepared_once_before_the_first_machine_and_ended_after_the_last(
    portal: Portal, folder: Path
) -> None:
    provider = Clouded()
    live = build(provider, portal, folder)
    assert provider.steps == ["prepare", "create one", "create two"]
    portal.call(live.close)
    assert provider.steps[:3] == ["prepare", "create one", "create two"]
    assert provider.steps[-1] == "end"
    assert provider.steps.count("end") == 1


def test_environment_that_cannot_be_prepared_has_no_machines(portal: Portal, folder: Path) -> None:
    provider = Clouded(fails="no credit")
    with pytest.raises(CreationError, match="no credit; try: pay"):
        build(provider, portal, folder)
    assert not [step for step in provider.steps if step != "destroy one"]
    assert "end" not in provider.steps


class Plain(Layout):
    target = "fake"
    one = Machine()


def test_environment_whose_preparation_failed_is_prepared_again_for_the_next_machine(
    portal: Portal, folder: Path
) -> None:
    provider = Clouded(fails="no credit")
    providers = Providers({"cloud": lambda: provider, "fake": FakeProvider})
    run = FakeRun(folder, World())

    async def go() -> None:
        live = await AsyncLayout.build(
            make_plan(Plain, targets=providers.traits),
            name="plain",
            run=run,
            providers=providers,
            portal=portal,
        )
        with pytest.raises(CreationError, match="no credit"):
            await live.add(Machine(on="cloud"), name="poor")
        provider.fails = ""
        await live.add(Machine(on="cloud"), name="rich")
        await live.close()

    portal.call(go)
    assert "create rich" in provider.steps
    assert provider.steps.count("prepare") == provider.steps.count("end") == 1
