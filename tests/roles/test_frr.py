"""FRR: the author's files as they are, all of its daemons, and when they have come to rest."""

from __future__ import annotations

import asyncio
import time
from ipaddress import ip_network
from pathlib import Path

import pytest

from pytest_carthage import Condition, Image, Layout, LayoutError, Machine, Network
from pytest_carthage.errors import TaskError, TimeLimitError
from pytest_carthage.roles import FrrRouter, converged, vtysh
from pytest_carthage.roles.frr.router import configuration_files, needed_daemons

# pure


@pytest.mark.parametrize(
    ("text", "daemons"),
    [
        ("hostname r1\n! router bgp 1\n", []),
        ("router bgp 65001\n neighbor eth0 bfd\n", ["bgpd", "bfdd"]),
        ("router bgp 65001\n neighbor 10.0.0.1 bfd profile fast\n", ["bgpd", "bfdd"]),
        ("router ospf\nrouter ospf6\n", ["ospfd", "ospf6d"]),
        ("router ospf6\n", ["ospf6d"]),
        ("interface eth0\n ip ospf bfd\nrouter ospf\n", ["ospfd", "bfdd"]),
        ("router isis x\n net 49.0001.0000.0000.0001.00\n", ["isisd"]),
        ("router rip\n network eth0\n", ["ripd"]),
        ("router ripng\n", ["ripngd"]),
        ("interface eth0\n ip pim\n", ["pimd"]),
        ("bfd\n peer 10.0.0.2\n", ["bfdd"]),
        ("mpls ldp\n router-id 10.0.0.1\n", ["ldpd"]),
        ("interface eth0\n vrrp 5 version 3\n", ["vrrpd"]),
    ],
)
def test_daemons_are_those_that_the_configuration_speaks_of(text: str, daemons: list[str]) -> None:
    assert needed_daemons(text) == daemons


def test_file_of_a_daemon_needs_that_daemon() -> None:
    assert needed_daemons("", ["zebra.conf", "bgpd.conf"]) == ["bgpd"]


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        (["r1.conf", "r2.conf"], {"frr.conf": "r1.conf"}),
        (["r1.conf", "daemons"], {"frr.conf": "r1.conf", "daemons": "daemons"}),
        (
            ["r1/frr.conf", "r1/daemons", "r1/README.md", "r2.conf"],
            {"frr.conf": "r1/frr.conf", "daemons": "r1/daemons"},
        ),
        (["r1/etc/frr/bgpd.conf", "r1/x.sh"], {"bgpd.conf": "r1/etc/frr/bgpd.conf"}),
        (["router-1/frr.conf"], {"frr.conf": "router-1/frr.conf"}),
        (["frr.conf", "vtysh.conf"], {"frr.conf": "frr.conf", "vtysh.conf": "vtysh.conf"}),
        (["r3.conf"], {}),
    ],
)
def test_files_are_those_of_the_machine(
    tmp_path: Path, there: list[str], taken: dict[str, str]
) -> None:
    for name in there:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    files, looked_for = configuration_files(tmp_path, ["r1", "router-1"])
    assert files == {name: tmp_path / path for name, path in taken.items()}
    if not taken:
        assert looked_for == [
            *("r1/etc/frr/", "r1/", "r1.conf"),
            *("router-1/etc/frr/", "router-1/", "router-1.conf"),
            "frr.conf",
        ]


def test_one_file_is_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "mine.conf").touch()
    assert configuration_files(tmp_path / "mine.conf", ["r1"])[0] == {
        "frr.conf": tmp_path / "mine.conf"
    }


def test_configuration_is_looked_for_beside_the_author_s_file() -> None:
    assert FrrRouter(config="test_frr.py").config == Path(__file__)
    with pytest.raises(LayoutError, match=r"config='frr': there is no .*tests/roles/frr.*; try: a"):
        FrrRouter(config="frr")


def test_configuration_is_one_of_the_two() -> None:
    with pytest.raises(LayoutError, match="it needs a configuration, by one of config= and text="):
        FrrRouter()
    with pytest.raises(LayoutError, match="by one of config= and text="):
        FrrRouter(config=__file__, text="router bgp 1")


def test_daemon_that_frr_has_not_is_refused() -> None:
    with pytest.raises(
        LayoutError, match=r"daemons has 'bird', which FRR has not.*; try: some of b"
    ):
        FrrRouter(text="!", daemons=("bird",))


def test_convergence_is_nothing_for_a_machine_that_is_being_built() -> None:
    with pytest.raises(LayoutError, match=r"convergence of FRR may wait for machines that are"):

        class Alone(Layout):
            a = Machine(wait_for=[converged()])


# real

DEBIAN = Image.debian("bookworm").with_packages("systemd-sysv")

#: of two routers on a wire without a subnet of IPv6, all that finds its neighbours by itself
EVERYTHING = """\
frr defaults datacenter
log syslog informational
!
interface lo
 ip address 10.255.0.{n}/32
 ipv6 address 2001:db8:{n}::{n}/128
 ip router isis x
 ipv6 ospf6 area 0
exit
!
interface wire
 ipv6 ospf6 area 0
 ipv6 ospf6 network point-to-point
 ipv6 ospf6 hello-interval 1
 ipv6 ospf6 dead-interval 4
 ip router isis x
 isis network point-to-point
 isis hello-interval 1
 isis circuit-type level-2-only
exit
!
interface lan
 ip router isis x
 isis passive
 ipv6 ospf6 area 0
 ipv6 ospf6 passive
exit
!
router ospf6
 ospf6 router-id 10.255.0.{n}
exit
!
router isis x
 net 49.0001.0000.0000.000{n}.00
 is-type level-2-only
 lsp-gen-interval 1
exit
!
router bgp 6500{n}
 no bgp ebgp-requires-policy
 neighbor wire interface remote-as external
 neighbor wire bfd
 address-family ipv4 unicast
  redistribute static
 exit-address-family
exit
!
ip route 192.0.2.{n}/32 blackhole
"""

RIP = """\
!
interface lan
 ip ospf area 0
 ip ospf hello-interval 1
 ip ospf dead-interval 4
 ip ospf retransmit-interval 1
exit
!
router ospf
 redistribute static
exit
!
router rip
 network lan
 redistribute static
 timers basic 5 15 10
exit
!
ip route 198.51.100.{n}/32 blackhole
"""


class Routers(Layout):
    """Two routers on a wire, and a third one without systemd on a network of one of them."""

    wire = Network("10.0.0.0/30", kind="point-to-point")
    lan = Network("10.0.1.0/24")
    a = Machine(
        DEBIAN,
        init="systemd",
        roles=[FrrRouter(text=EVERYTHING.format(n=1))],
        links={"wire": wire.at(".1")},
    )
    b = Machine(
        DEBIAN,
        init="systemd",
        roles=[FrrRouter(text=EVERYTHING.format(n=2) + RIP.format(n=2))],
        links={"wire": wire.at(".2"), "lan": lan.at(".2")},
    )
    c = Machine(DEBIAN, roles=[FrrRouter(text=RIP.format(n=3))], links={"lan": lan.at(".3")})


routers = Routers.fixture()


@pytest.mark.real
@pytest.mark.timeout(300)
def test_all_protocols_converge(routers: Routers) -> None:
    for machine in (routers.a, routers.b, routers.c):
        machine.wait_for(converged())
    protocols = {str(one.destination): one.protocol for one in routers.a.network.routes()}
    assert protocols["192.0.2.2/32"] == "bgp"
    assert protocols["10.255.0.2/32"] == "isis"
    assert protocols["2001:db8:2::2/128"] == "ospf"  # by link-local addresses alone
    daemons = {"zebra", "bgpd", "ospf6d", "isisd", "bfdd", "staticd"}
    assert set(vtysh(routers.a, "show daemons").split()) - {"watchfrr"} == daemons
    assert vtysh(routers.a, "show bfd peers json")[0]["status"] == "up"
    assert routers.a.run("systemctl is-enabled frr").stdout == "enabled\n"


@pytest.mark.real
def test_machine_without_systemd_routes_too(routers: Routers) -> None:
    routers.c.wait_for(converged())
    routes = {str(one.destination): one.protocol for one in routers.c.network.routes()}
    assert routes["198.51.100.2/32"] == "ospf"
    assert "10.0.1.2" in vtysh(routers.c, "show ip rip status")


@pytest.mark.real
def test_command_that_frr_does_not_know_is_an_error_in_its_words(routers: Routers) -> None:
    with pytest.raises(TaskError, match=r"'a': vtysh 'show beer json': .*Unknown command: show b"):
        vtysh(routers.a, "show beer json")
    with pytest.raises(TaskError, match=r"vtysh 'show ip ospf json': it says .*not running"):
        vtysh(routers.a, "show ip ospf json")


@pytest.mark.real
def test_vtysh_configures_and_is_awaited_of_an_asynchronous_handle(routers: Routers) -> None:
    vtysh(routers.a, "configure terminal", "ip route 203.0.113.7/32 blackhole")
    told = asyncio.run(_routes(routers))
    assert told["203.0.113.7/32"][0]["protocol"] == "static"
    routers.b.wait_for(converged())
    assert ip_network("203.0.113.7/32") in {one.destination for one in routers.a.network.routes()}


async def _routes(routers: Routers) -> dict[str, list[dict[str, str]]]:
    told: dict[str, list[dict[str, str]]] = await vtysh(routers.a.aio, "show ip route json")
    return told


@pytest.mark.real
def test_convergence_that_does_not_come_tells_what_is_missing(routers: Routers) -> None:
    bgp = ("configure terminal", "router bgp 65001")
    vtysh(routers.a, *bgp, "neighbor wire shutdown")
    routers.a.wait_for(converged())  # nobody waits for what was shut down here
    asked = converged()
    deadline = time.monotonic() + 30
    while not (missing := asyncio.run(_asked(asked, routers))).startswith("BGP with wire: "):
        assert time.monotonic() < deadline, missing
    vtysh(routers.a, *bgp, "no neighbor wire shutdown")
    routers.b.wait_for(converged())


async def _asked(condition: Condition, routers: Routers) -> str:
    assert condition.ask is not None
    return await condition.ask(routers.b.aio)


@pytest.mark.real
def test_machine_without_frr_is_told_apart(routers: Routers) -> None:
    plain = routers.add(Machine(DEBIAN), name="plain")
    with pytest.raises(TimeLimitError, match=r"FRR does not run .*try: roles=\[FrrRouter"):
        plain.wait_for(converged(), timeout_s=0.2)


@pytest.mark.real
def test_neighbour_behind_a_link_that_is_down_is_not_waited_for(routers: Routers) -> None:
    with routers.a.link("wire").down():
        for machine in (routers.a, routers.b):
            machine.wait_for(converged())
        destinations = {str(one.destination) for one in routers.a.network.routes()}
        assert destinations.isdisjoint({"192.0.2.2/32", "10.255.0.2/32", "2001:db8:2::2/128"})
    routers.a.wait_for(converged())
    destinations = {str(one.destination) for one in routers.a.network.routes()}
    assert {"192.0.2.2/32", "10.255.0.2/32", "2001:db8:2::2/128"} <= destinations


@pytest.mark.real
def test_router_that_is_started_again_routes_again(routers: Routers) -> None:
    routers.a.restart()
    routers.a.wait_for(converged())
    routes = {str(one.destination): one.protocol for one in routers.a.network.routes()}
    assert routes["192.0.2.2/32"] == "bgp"
    assert "10.255.0.1/32" in {str(one.address) for one in routers.a.network.addresses("lo")}


@pytest.mark.real
def test_configuration_is_reloaded_as_in_production(routers: Routers) -> None:
    text = routers.b.read_text("/etc/frr/frr.conf")
    routers.b.write_text("/etc/frr/frr.conf", text + "ip route 203.0.113.9/32 blackhole\n")
    routers.b.run("systemctl reload frr")
    assert routers.b.network.route_to("203.0.113.9") is None
    routers.b.wait_for(converged())
    assert "203.0.113.9/32" in vtysh(routers.b, "show ip route json")


@pytest.mark.real
def test_file_that_frr_does_not_understand_is_refused_with_its_lines(routers: Routers) -> None:
    machine = routers.aio.add(
        Machine(DEBIAN, roles=[FrrRouter(text="router bgp 65001\n neighbour 10.0.0.1\n")]),
        name="wrong",
    )
    expected = r"FRR does not understand its frr\.conf: line 2: % Unknown command.* neighbour 10"
    with pytest.raises(Exception, match=expected):
        asyncio.run(machine)


@pytest.mark.real
def test_machine_without_a_file_of_its_own_is_told_what_was_looked_for(
    routers: Routers, tmp_path: Path
) -> None:
    (tmp_path / "r1.conf").write_text("!\n")
    role = FrrRouter(config=tmp_path)
    with pytest.raises(Exception, match=r"none of r9/etc/frr/, r9/, r9\.conf, frr\.conf.*; try"):
        routers.add(Machine(DEBIAN, roles=[role]), name="r9")
