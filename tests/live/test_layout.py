"""The instance of a layout: delegation to a live environment."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytest_carthage import Layout, Machine, Network, Role
from pytest_carthage.bridge import TwoFaced, block, opening, operation
from pytest_carthage.live.environment import AsyncLayout
from pytest_carthage.live.machines.machine import AsyncMachine, MachineHandle
from pytest_carthage.live.operations import LayoutOperations
from pytest_carthage.live.rooms import Rooms
from pytest_carthage.planning import extend_plan, make_plan, reduce_plan
from pytest_carthage.portal import Portal
from pytest_carthage.work.ansible.command import CommandLine
from pytest_carthage.work.ansible.plays import Play, Plays


class Pair(Layout):
    lan = Network("10.0.0.0/24")
    gw = Machine(links={"eth0": lan.at(".1")})
    web = Machine(links={"eth0": lan.at(".2", gateway=".1")})


class Stand(AsyncLayout):
    """A live layout without machines: its handles stand for those of others."""

    def __init__(self, layout: type[Layout], portal: Portal) -> None:
        self.name = "run-pair"
        self.folder = Path("/state/run-pair")
        self.portal = portal
        self.plan = make_plan(layout)
        self._rooms = cast("Rooms", SimpleNamespace(plays=Plays()))
        self.machines = {}
        for name in self.plan.machines:
            self._join(name)

    def _join(self, name: str) -> AsyncMachine:
        handle = cast("MachineHandle", SimpleNamespace(name=name, kind="sync"))
        machine = cast("AsyncMachine", Handle(name, handle))
        self.machines[name] = machine
        return machine

    async def _admit(self, machine: Machine, name: str) -> AsyncMachine:
        self.plan, _ = extend_plan(self.plan, name, machine)
        return self._join(name)

    async def _dismiss(self, name: str) -> None:
        self.plan = reduce_plan(self.plan, name)
        del self.machines[name]


class Handle(TwoFaced[MachineHandle]):
    """Stands for the handle of a machine."""

    kind = "async"

    def __init__(self, name: str, sync: MachineHandle) -> None:
        self.name = name
        self._sync = sync

    @property
    def sync(self) -> MachineHandle:
        return self._sync


@pytest.fixture
def pair(portal: Portal) -> Pair:
    return Pair(Stand(Pair, portal))


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
    with pytest.raises(AttributeError, match="aio"):
        Pair.__new__(Pair).lost  # type: ignore[attr-defined] # noqa: B018


def test_ansible_passes_its_options_on(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def run_play(environment: object, play: Play, **options: Any) -> Any:
        return environment, play.playbooks, play.line, options

    monkeypatch.setattr("pytest_carthage.work.ansible.playbook.run_play", run_play)
    given: Any = {"extra_vars": {"a": 1}, "limit": "web", "check": True, "outside": "far:443"}
    path = tmp_path / "site.yml"
    path.touch()
    options = {"timeout_s": 3600, "idempotent": False}
    expected = pair.aio, (path,), CommandLine.of(given), options
    assert cast("Any", pair.ansible(path, **given)) == expected
    assert cast("Any", asyncio.run(pair.aio.ansible(path, **given))) == expected


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


def test_machine_that_a_subclass_removed_is_no_handle(portal: Portal) -> None:
    class Alone(Pair, without=["web"]):
        pass

    assert Alone(Stand(Alone, portal)).web is None


class Well(Role):
    offers = ("water",)


def test_services_and_roles_of_a_live_layout_lead_to_handles(portal: Portal) -> None:
    class Village(Pair):
        well = Machine(roles=[Well()])

    village = Village(Stand(Village, portal))
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


def test_operation_is_declared_once_and_both_faces_have_it(portal: Portal) -> None:
    class Counted(LayoutOperations):
        """One edit: what is declared here, both faces have."""

        @operation
        async def census(self, *, of: str = "machines") -> str:
            return f"{len(self.plan.machines)} {of}"

    class CountedStand(Counted, Stand):
        pass

    class CountedPair(Counted, Pair):
        pass

    live = CountedPair(CountedStand(Pair, portal))
    assert live.census() == "2 machines"
    assert asyncio.run(cast("CountedStand", live.aio).census(of="hosts")) == "2 hosts"
    with pytest.raises(TypeError, match="it has no argument 'off'; try: of="):
        live.census(off="x")  # type: ignore[call-arg]


def test_no_operation_of_layouts_is_declared_a_second_time() -> None:
    declared = {
        name
        for name, value in vars(LayoutOperations).items()
        if isinstance(value, operation | opening | block)
    }
    assert {"add", "remove", "ansible", "partition", "gate", "capture", "span"} <= declared
    for face in (Layout, AsyncLayout):
        assert declared.isdisjoint(vars(face)), face
        assert issubclass(face, LayoutOperations)


def test_operation_called_on_the_loop_that_carries_it_out_is_refused(pair: Pair) -> None:
    async def careless() -> None:
        pair.remove("web")

    with pytest.raises(RuntimeError, match=r"^remove was called on the event loop .* use \.aio"):
        pair.aio.portal.call(careless)
