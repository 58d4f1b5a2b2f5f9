"""The instance of a layout: delegation to a live environment."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from pytest_carthage import Layout, Machine, Network, Role
from pytest_carthage.access.handle import MachineHandle
from pytest_carthage.access.machine import AsyncMachine
from pytest_carthage.planning import extend_plan, make_plan, reduce_plan


class Pair(Layout):
    lan = Network("10.0.0.0/24")
    gw = Machine(links={"eth0": lan.at(".1")})
    web = Machine(links={"eth0": lan.at(".2", gateway=".1")})


class Handle:
    """Stands for a handle."""

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.kind = kind


class AsyncFake:
    """The async half of the environment below."""

    def __init__(self, owner: Fake) -> None:
        self.owner = owner
        self.gates: Sequence[Any] = ()

    def handle(self, name: str) -> AsyncMachine:
        return cast("AsyncMachine", self.owner.find(name, "async"))

    def handles(self) -> Sequence[AsyncMachine]:
        return [self.handle(name) for name in self.owner.plan.machines]

    async def add(self, name: str, machine: Machine) -> AsyncMachine:
        self.owner.extend(name, machine)
        return self.handle(name)

    async def remove(self, name: str) -> None:
        self.owner.plan = reduce_plan(self.owner.plan, name)

    async def ansible(self, playbook: str | Path, **options: Any) -> Any:
        return ("async", playbook, options)

    def partition(self, *groups: Any) -> Any:
        return ("partition", groups)

    def gate(self, machine: str, *, to: str, for_s: float) -> Any:
        return ("gate", machine, to, for_s)

    def capture(self, network: str, filter: str = "") -> Any:
        return ("capture", network, filter)

    async def assert_sealed(self, *, timeout_s: float = 30.0) -> Any:
        return ("sealed", timeout_s)

    def span(self, other: Any, network: str) -> Any:
        return ("span", other, network)


class Fake:
    """A live environment without machines."""

    name = "run-pair"
    folder = Path("/state/run-pair")

    def __init__(self) -> None:
        self.plan = make_plan(Pair)
        self.aio: Any = AsyncFake(self)

    def find(self, name: str, kind: str) -> Handle:
        if name not in self.plan.machines:
            raise KeyError(name)
        return Handle(name, kind)

    def extend(self, name: str, machine: Machine) -> None:
        self.plan, _ = extend_plan(self.plan, name, machine)

    def handle(self, name: str) -> MachineHandle:
        return cast("MachineHandle", self.find(name, "sync"))

    def handles(self) -> Sequence[MachineHandle]:
        return [self.handle(name) for name in self.plan.machines]

    def add(self, name: str, machine: Machine) -> MachineHandle:
        self.extend(name, machine)
        return self.handle(name)

    def remove(self, name: str) -> None:
        self.plan = reduce_plan(self.plan, name)

    def ansible(self, playbook: str | Path, **options: Any) -> Any:
        return ("sync", playbook, options)

    def partition(self, *groups: Any) -> Any:
        return ("partition", groups)

    def gate(self, machine: str, *, to: str, for_s: float) -> Any:
        return ("gate", machine, to, for_s)

    def capture(self, network: str, filter: str = "") -> Any:
        return ("capture", network, filter)

    def inside(self, network: str) -> Any:
        return ("inside", network)

    def span(self, other: Any, network: str) -> Any:
        return ("span", other, network)

    def assert_sealed(self, *, timeout_s: float = 30.0) -> Any:
        return ("sealed", timeout_s)


@pytest.fixture
def pair() -> Pair:
    return Pair(Fake())


def test_machine_of_an_instance_is_its_handle(pair: Pair) -> None:
    assert pair.web.name == "web"
    assert pair["web"].name == "web"
    assert [handle.name for handle in pair] == ["gw", "web"]
    assert "web" in pair
    assert "db" not in pair


def test_network_of_an_instance_is_the_declaration(pair: Pair) -> None:
    assert pair.lan is Pair.lan


def test_instance_tells_about_its_environment(pair: Pair) -> None:
    assert pair.name == "run-pair"
    assert pair.folder == Path("/state/run-pair")
    assert pair.plan.layout == "Pair"
    assert repr(pair) == "<Pair run-pair: gw, web>"


def test_added_machine_is_reached_by_item_and_by_attribute(pair: Pair) -> None:
    made = pair.add(Machine(links={"eth0": pair.lan.at()}), name="till-1")
    assert made.name == "till-1"
    assert pair["till-1"].name == "till-1"
    pair.add(Machine(links={"eth0": pair.lan.at()}), name="till2")
    assert pair.till2.name == "till2"  # type: ignore[attr-defined]
    assert [handle.name for handle in pair] == ["gw", "web", "till-1", "till2"]
    pair.remove("till-1")
    assert "till-1" not in pair


def test_unknown_machine_is_refused_with_those_that_there_are(pair: Pair) -> None:
    message = "layout 'Pair' has no machine 'db'; its machines are: gw, web"
    with pytest.raises(AttributeError, match=f"^{message}$"):
        pair.db  # type: ignore[attr-defined] # noqa: B018
    with pytest.raises(KeyError, match=message):
        pair["db"]
    with pytest.raises(KeyError, match=message):
        pair.remove("db")
    with pytest.raises(AttributeError, match=f"^{message}$"):
        pair.aio.db  # noqa: B018
    with pytest.raises(KeyError, match=message):
        pair.aio["db"]
    assert not hasattr(pair, "__fspath__")
    assert not hasattr(pair.aio, "_secret")


def test_instance_without_environment_does_not_recurse() -> None:
    with pytest.raises(AttributeError, match="_environment"):
        Pair.__new__(Pair).lost  # type: ignore[attr-defined] # noqa: B018


def test_ansible_passes_its_options_on(pair: Pair) -> None:
    options = {
        "extra_vars": {"a": 1},
        "limit": "web",
        "tags": None,
        "check": True,
        "timeout_s": 3600,
        "inventory_extra": None,
    }
    given = {"extra_vars": {"a": 1}, "limit": "web", "check": True}
    assert pair.ansible("site.yml", **given) == ("sync", "site.yml", options)  # type: ignore[arg-type,comparison-overlap]
    assert asyncio.run(pair.aio.ansible("site.yml", **given)) == ("async", "site.yml", options)  # type: ignore[arg-type,comparison-overlap]


def test_async_view_gives_async_handles(pair: Pair) -> None:
    async def use() -> None:
        made = await pair.aio.add(Machine(links={"eth0": pair.lan.at()}), name="till-1")
        assert cast("Any", made).kind == "async"
        assert pair.aio.web.name == "web"
        assert pair.aio["till-1"].name == "till-1"
        assert [handle.name for handle in pair.aio] == ["gw", "web", "till-1"]
        assert "till-1" in pair.aio
        await pair.aio.remove("till-1")
        assert "till-1" not in pair.aio
        with pytest.raises(KeyError, match="no machine 'till-1'"):
            await pair.aio.remove("till-1")

    asyncio.run(use())


def test_machine_that_a_subclass_removed_is_no_handle(pair: Pair) -> None:
    class Alone(Pair, without=["web"]):
        pass

    assert Alone(Fake()).web is None


class Well(Role):
    offers = ("water",)


def test_services_and_roles_of_a_live_layout_lead_to_handles() -> None:
    class Village(Pair):
        well = Machine(roles=[Well()])

    fake = Fake()
    fake.plan = make_plan(Village)
    village = Village(cast("Any", fake))
    assert dict(Village.offering("water")) == {"well": Village.well}
    found = cast("Any", village.offering("water"))
    assert {name: (one.name, one.kind) for name, one in found.items()} == {"well": ("well", "sync")}
    assert list(village.with_role(Well)) == ["well"]
    village.add(Machine(roles=[Well()]), name="spring")
    assert list(village.offering("water")) == ["well", "spring"]
    assert list(Village.offering("water")) == ["well"]
    aio = village.aio
    assert [one.kind for one in cast("Any", aio.offering("water").values())] == ["async", "async"]
    assert list(aio.with_role(Role)) == ["well", "spring"]
