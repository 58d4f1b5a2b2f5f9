"""What is pretended of an environment: machines, fabric, faults, addresses, and its provider."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import Layout, Machine, Network, Role, V4Config
from pytest_carthage.errors import FabricError
from pytest_carthage.planning import make_plan
from pytest_carthage.planning.plan import Plan
from pytest_carthage.planning.traits import Traits
from pytest_carthage.provider import (
    Context,
    Freezes,
    Identity,
    Logs,
    Means,
    Powered,
    PreparesEnvironments,
    StartsFromImages,
)
from pytest_carthage.testing import FakeFabric, FakeMachine, FakeProvider, FakeRun, World
from pytest_carthage.testing.lending import lend
from tests.fabric.peer import descriptors


class Shop(Layout):
    lan = Network("10.0.0.0/24")
    db = Machine(links={"eth0": lan.at(".10")})
    web = Machine(links={"eth0": lan.at(".20")}, env={"SHOP": "1"})


@pytest.fixture
def plan() -> Plan:
    return make_plan(Shop)


@pytest.fixture
def world() -> Iterator[World]:
    world = World(answers={"it": "done"}, files={"web": {"/srv/x": "here"}})
    yield world
    world.close()


def test_machine_is_made_as_planned_and_with_what_the_test_gave(plan: Plan, world: World) -> None:
    web = world.create(plan.machines["web"], hosts="10.0.0.10 db\n")
    db = world.create(plan.machines["db"], hosts="")
    assert web.files["/etc/hosts"] == "10.0.0.10 db\n"
    assert web.files["/srv/x"] == "here"
    assert "/srv/x" not in db.files
    assert (web.hostname, web.env, web.power, web.starts) == ("web", {"SHOP": "1"}, "on", 1)
    assert (list(world), len(world), world["web"]) == (["web", "db"], 2, web)
    assert repr(web) == "<fake machine web: on>"


def test_machine_that_is_not_there_is_told_with_those_that_are(plan: Plan, world: World) -> None:
    with pytest.raises(KeyError, match="no fake machine 'web'; there are: none"):
        world["web"]
    world.create(plan.machines["db"], hosts="")
    with pytest.raises(KeyError, match="no fake machine 'web'; there are: db"):
        world["web"]
    assert "web" not in world


def test_address_leads_to_its_machine_until_that_is_removed(plan: Plan, world: World) -> None:
    web = world.create(plan.machines["web"], hosts="")
    assert world.at("10.0.0.20") is web
    assert world.at("10.0.0.10") is None
    world.remove("web")
    world.remove("web")
    assert world.at("10.0.0.20") is None
    assert web.power == "off"


def test_end_of_a_world_lets_go_of_all_files(plan: Plan) -> None:
    before = descriptors()
    world = World(files={"web": {"/srv/x": "here"}})
    for planned in plan.machines.values():
        world.create(planned, hosts="")
    assert descriptors() > before
    world.close()
    assert descriptors() <= before
    assert list(world) == []


# services


def test_service_talks_and_others_are_refused() -> None:
    machine = FakeMachine("web")
    machine.serve(80, lambda far: far.sendall(far.recv(10).upper()))
    machine.serve(81)
    with machine.connect(80) as near:
        near.settimeout(10)
        near.sendall(b"hello")
        assert near.recv(10) == b"HELLO"
        assert near.recv(1) == b""
    with machine.connect(81) as near:
        near.settimeout(10)
        assert near.recv(1) == b""
    assert machine.ports == [80, 81]
    with pytest.raises(ConnectionRefusedError):
        machine.connect(82)
    machine.power = "off"
    with pytest.raises(ConnectionRefusedError):
        machine.connect(80)
    machine.files.close()


# the fabric


def ask(fabric: FakeFabric, op: str, **fields: Any) -> dict[str, Any]:
    async def go() -> dict[str, Any]:
        reply, fds = await fabric.request(op, **fields)
        assert fds == []
        return reply

    return asyncio.run(go())


def test_fabric_remembers_faults_and_their_end(world: World) -> None:
    fabric = FakeFabric(world)
    first = ask(fabric, "disturb", kind="impair", machine="web", loss_pct=5)
    groups = [{"members": [{"machine": "web"}]}, {"members": [{"machine": "db"}]}]
    second = ask(fabric, "disturb", kind="partition", groups=groups)
    assert first["number"] != second["number"]
    assert [fault.machines for fault in world.faults] == [("web",), ("web", "db")]
    assert world.faults[0].fields == {"machine": "web", "loss_pct": 5}
    ask(fabric, "heal", number=first["number"])
    ask(fabric, "heal", number=first["number"])
    assert [(fault.kind, fault.is_active) for fault in world.faults] == [
        ("impair", False),
        ("partition", True),
    ]


def test_fabric_makes_places_and_says_what_takes_a_real_one(world: World) -> None:
    fabric = FakeFabric(world)
    made = ask(fabric, "machines", machines=[{"name": "a"}, {"name": "b"}])
    assert (list(made["made"]), made["failed"]) == (["a", "b"], {})
    assert ask(fabric, "networks", networks=[]) == {}
    with pytest.raises(
        FabricError, match=r"fake fabric: 'spawn' takes a real one, .*; try: the layout's own fix"
    ):
        ask(fabric, "spawn", argv=["tcpdump"])
    assert [op for op, _ in fabric.requests] == ["machines", "networks", "spawn"]
    fabric.close()
    assert fabric.closed


def test_run_remembers_what_was_written_and_starts_nothing(tmp_path: Path, world: World) -> None:
    run, other = FakeRun(tmp_path, world), FakeRun(tmp_path, world)
    assert run.id != other.id
    assert run.name != other.name
    identity = Identity(kind="fake", run=run.id, environment="e", name="web")

    async def go() -> None:
        folder, fabric = await run.environment("e", {}, unprivileged=True)
        assert (folder / "logs").is_dir()
        assert fabric is run.fabric
        await run.intend(identity)
        await run.destroyed(identity)
        await run.describe("e", {})
        await run.destroy("e")
        with pytest.raises(ValueError, match="ends with its process, and cannot be kept"):
            await run.keep("e", for_s=1)
        with pytest.raises(FabricError, match=r"fake run: 'ssh' is not started, .*; try: "):
            await run.deputy("e", ["ssh"], env={}, log=tmp_path / "log", control=0)

    asyncio.run(go())
    assert (run.intended, run.destroyed_identities) == ([identity], [identity])
    run.close()


# the provider


def context(plan: Plan, name: str) -> Context:
    async def refuse(*given: object) -> Any:
        raise AssertionError(f"a fake machine needs none of {given}")

    return Context(
        identity=Identity(kind="fake", run="r", environment="e", name=name),
        plan=plan,
        fabric=FakeFabric(World()),
        place=refuse,
        channel=refuse,
        deputy=refuse,
        station=refuse,
        folder=Path("/nowhere"),
        logs=Path("/nowhere"),
        intend=refuse,
        note=lambda who, text: None,
    )


def test_provider_makes_machines_that_are_switched_and_forgotten(plan: Plan) -> None:
    provider = FakeProvider()

    async def go() -> None:
        means = await provider.create(plan.machines["web"], context(plan, "web"))
        assert isinstance(means, Means)
        assert isinstance(means, Powered)
        assert isinstance(means, Logs)
        assert not isinstance(means, Freezes)
        machine = provider.world["web"]
        assert machine.files["/etc/hosts"] == plan.hosts_file(["lan"])
        machine.log = "started\n"
        assert await means.logs() == "started\n"
        await means.stop()
        with pytest.raises(FabricError, match="it is off"):
            await means.channel.request("ping")
        await means.start()
        assert (await means.channel.request("ping"))[0] == {}
        assert machine.starts == 2
        await provider.destroy(means.identity)
        await provider.destroy(means.identity)
        assert list(provider.world) == []
        assert list(await provider.leftovers("r")) == []

    asyncio.run(go())
    assert list(provider.check(plan)) == []


def test_provider_promises_no_more_than_it_keeps() -> None:
    provider: object = FakeProvider()
    assert not isinstance(provider, PreparesEnvironments)
    assert not isinstance(provider, StartsFromImages)


def test_provider_stands_for_any_target() -> None:
    traits = Traits(root="existing", init=False, outside=True, lacks=frozenset({"freeze"}))
    provider = FakeProvider(kind="board", traits=traits)
    assert (provider.kind, provider.traits) == ("board", traits)
    assert FakeProvider().world is not FakeProvider().world


# addresses


class Server(Role):
    serves_dhcp = True


class Lent(Layout):
    lan = Network(v4=V4Config(network="10.0.0.0/29", dhcp_ranges=[(".4", ".5")]))
    server = Machine(roles=[Server()], links={"eth0": lan.at(".6")})
    b = Machine(links={"eth0": lan.at(dhcp=True)})
    c = Machine(links={"eth0": lan.at(dhcp=True)})
    d = Machine(links={"eth0": lan.at(".1")})


def test_address_that_would_be_asked_for_is_there_and_nobody_elses() -> None:
    planned = make_plan(Lent)
    assert planned.machines["b"].links[0].addresses == ()
    lent = lend(planned)
    addresses = {
        name: str(machine.links[0].addresses[0]) for name, machine in lent.machines.items()
    }
    assert addresses == {
        "server": "10.0.0.6/29",
        "b": "10.0.0.3/29",
        "c": "10.0.0.2/29",
        "d": "10.0.0.1/29",
    }
    assert not any(machine.asks_dhcp for machine in lent.machines.values())
    assert lend(lent) == lent


def test_plan_in_which_nobody_asks_is_lent_nothing(plan: Plan) -> None:
    assert lend(plan) == plan
