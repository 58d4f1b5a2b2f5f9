"""Addresses that a machine sets by itself: expected before, or read back."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface

import pytest

from pytest_carthage import Layout, Machine, Network, Role, command, machine_task
from pytest_carthage.errors import CreationError
from pytest_carthage.live.machines.machine import AsyncMachine
from pytest_carthage.planning import make_plan
from pytest_carthage.roles import OspfRouter
from tests.live.conftest import Build


class Sets(Role):
    """What FRR, NetworkManager or a script does to a machine."""

    @machine_task("set addresses")
    async def set(self, machine: AsyncMachine) -> None:
        for address in ("10.0.0.1/24", "fd00::1/64"):
            await machine.run(f"ip address add {address} dev eth0")
        if "eth1" in machine.links:
            await machine.run("ip address add 192.0.2.7/28 dev eth1")


class Office(Layout):
    """A router that configures itself, and a desk whose gateway it is."""

    lan = Network("10.0.0.0/24", "fd00::/64")
    wan = Network()
    router = Machine(
        roles=[Sets()],
        links={"eth0": lan.at(None, expects=[".1", "fd00::1/64"]), "eth1": wan.at(None)},
        routes={"10.7.0.0/16": "10.0.0.2"},
        forward=True,
    )
    desk = Machine(links={"eth0": lan.at(".2", "::2", gateway=".1")})


def test_expected_address_is_in_the_plan_and_nobody_else_s() -> None:
    plan = make_plan(Office)
    (eth0, eth1) = plan.machines["router"].links
    assert [str(one) for one in eth0.addresses] == ["10.0.0.1/24", "fd00::1/64"]
    assert [one.configured for one in eth0.addressings] == [(), ()]
    assert eth1.addresses == ()
    assert plan.hosts["10.0.0.1"] == ("router",)
    assert str(plan.machines["desk"].links[0].gateway) == "10.0.0.1"

    class More(Office):
        printer = Machine(links={"eth0": Office.lan.at()})

    assert str(make_plan(More).machines["printer"].links[0].address) == "10.0.0.3/24"


def test_expected_address_may_have_a_subnet_of_its_own() -> None:
    class Bare(Layout):
        wire = Network()
        a = Machine(links={"eth0": wire.at(None, expects=ip_interface("198.51.100.1/31"))})
        b = Machine(links={"eth0": wire.at(None, expects="198.51.100.0/31")})

    plan = make_plan(Bare)
    assert [str(m.links[0].address) for m in plan.machines.values()] == [
        "198.51.100.1/31",
        "198.51.100.0/31",
    ]


@pytest.mark.real
def test_names_gateways_and_captures_know_what_the_machine_has_set(build: Build) -> None:
    office = build(Office)
    router, desk = office["router"], office["desk"]
    assert router.address("lan") == "10.0.0.1"
    desk.ping("router")
    with office.capture("lan", "icmp or icmp6") as packets:
        desk.ping("fd00::1")
        seen = packets.wait_for(lambda packet: packet.receiver == "desk")
    assert seen.source == "router"
    # a route by a link whose address comes later
    route = router.network.route_to("10.7.0.1")
    assert route is not None
    assert route.via == ip_address("10.0.0.2")


@pytest.mark.real
def test_address_that_nobody_expected_is_read_back(build: Build) -> None:
    office = build(Office)
    router = office["router"]
    assert router.address("wan") == "192.0.2.7"
    assert router.addresses == {"eth0": "10.0.0.1", "eth1": "192.0.2.7"}
    assert "192.0.2.7 router" in office["desk"].read_text("/etc/hosts")
    router.run("ip address flush dev eth1; ip address add 192.0.2.9/28 dev eth1")
    office.learn_addresses()
    assert router.address("wan") == "192.0.2.9"
    assert str(router.link("eth1").planned.address) == "192.0.2.9/28"
    hosts = office["desk"].read_text("/etc/hosts")
    assert "192.0.2.9 router" in hosts
    assert "192.0.2.7" not in hosts
    router.run("ip address flush dev eth1")
    office.learn_addresses()
    with pytest.raises(LookupError, match="no address in network 'wan'"):
        router.address("wan")


@pytest.mark.real
def test_machine_that_does_not_set_what_was_expected_is_not_ready(build: Build) -> None:
    class Wrong(Layout):
        lan = Network("10.0.0.0/24", "fd00::/64")
        router = Machine(
            roles=[Sets()],
            links={"eth0": lan.at(None, expects=".9")},
            ready_timeout_s=0.5,
        )

    expected = (
        r"link 'eth0' expects 10\.0\.0\.9/24, which the machine has not set after 0\.5 s "
        r"\(last: it has 10\.0\.0\.1/24, fd00::1/64\); try: what sets it"
    )
    with pytest.raises(CreationError, match=expected):
        build(Wrong)


@pytest.mark.real
def test_expected_address_is_not_waited_for_where_the_link_is_not_required(build: Build) -> None:
    class Late(Layout):
        lan = Network("10.0.0.0/24")
        a = Machine(links={"eth0": lan.at(None, expects=".9", required=False)})

    assert build(Late)["a"].address() == "10.0.0.9"


class Loopbacks(Layout):
    """Two routers that are known by addresses of their own."""

    wire = Network("10.0.0.0/30", kind="point-to-point")
    a = Machine(
        links={"eth0": wire.at(".1")},
        loopback=["10.255.0.1", "2001:db8::1"],
        roles=[OspfRouter()],
    )
    b = Machine(links={"eth0": wire.at(".2")}, loopback="10.255.0.2", roles=[OspfRouter()])


@pytest.mark.real
def test_loopback_addresses_are_there_and_told_to_other_routers(build: Build) -> None:
    routers = build(Loopbacks)
    a, b = routers["a"], routers["b"]
    assert (a.address(), a.address("lo"), b.addresses["lo"]) == (
        "10.0.0.1",
        "10.255.0.1",
        "10.255.0.2",
    )
    having = [str(one.address) for one in a.network.addresses("lo") if one.scope == "global"]
    assert having == ["10.255.0.1/32", "2001:db8::1/128"]
    b.wait_for(command("ip route get 10.255.0.1 && ip -6 route show 2001:db8::1 | grep via"))
    assert "router id 10.255.0.2;" in b.read_text("/run/bird/bird.conf")
    with routers.capture("wire", "icmp") as packets:
        b.ping("10.255.0.1")
    assert packets[0].destination == "a"
    a.stop()
    a.start()
    assert ip_address("10.255.0.1") in {one.ip for one in a.network.addresses("lo")}
