"""Links that ask by DHCP: the clients, how long they are waited for, and their end."""

from __future__ import annotations

import re
import time
from ipaddress import ip_address, ip_interface
from pathlib import Path

import pytest

from pytest_carthage import Layout, Machine, Network, V4Config, V6Config
from pytest_carthage.errors import CreationError
from pytest_carthage.fabric.host import programs
from pytest_carthage.live.machines.lease import Lease
from pytest_carthage.planning import make_plan
from pytest_carthage.planning.resolver import resolv_conf
from pytest_carthage.providers.netns import NetnsProvider
from pytest_carthage.roles import DhcpServer
from tests.live.conftest import Build, end


class Lan(Layout):
    lan = Network("10.0.0.0/24")
    server = Machine(links={"eth0": lan.at(".1")}, roles=[DhcpServer()])
    pc = Machine(links={"eth0": lan.at(".7", dhcp=True)})


def test_lease_is_read_from_what_the_hook_tells() -> None:
    assert Lease.parse(["10.0.0.7/255.255.255.0", "10.0.0.1", "10.0.0.2 10.0.0.3", "a. b."]) == (
        Lease(
            address=ip_interface("10.0.0.7/24"),
            gateway=ip_address("10.0.0.1"),
            dns_servers=(ip_address("10.0.0.2"), ip_address("10.0.0.3")),
            domains=("a", "b"),
        )
    )
    assert Lease.parse(["", "", "", ""]) is None


def test_resolver_is_told_what_the_links_say_and_then_what_was_learned() -> None:
    class Two(Layout):
        lan = Network(v4=V4Config(network="10.0.0.0/24", dns_servers="10.0.0.53", domains="lan"))
        wan = Network("198.51.100.0/24")
        both = Machine(links={"a": wan.at(".1"), "b": lan.at(".1")})
        none = Machine(links={"a": wan.at(".2")})

    machines = make_plan(Two).machines
    assert resolv_conf(machines["both"]) == "search lan\nnameserver 10.0.0.53\n"
    learned = resolv_conf(machines["both"], dns_servers=["10.0.0.53", "::1"], domains=["x", "lan"])
    assert learned == "search lan x\nnameserver 10.0.0.53\nnameserver ::1\n"
    assert resolv_conf(machines["none"]).startswith("# a machine of a sealed layout: no DNS server")


def test_host_without_the_programs_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(programs, "PATH", str(tmp_path))
    found = {p.packages: str(p) for p in NetnsProvider().check(make_plan(Lan)) if p.packages}
    assert found == {
        ("dnsmasq-base",): "netns: no dnsmasq, which machines with DhcpServer run; "
        "try: apt-get install dnsmasq-base",
        ("isc-dhcp-client",): "netns: no dhclient, which asks for the addresses of links with "
        "dhcp=True; try: apt-get install isc-dhcp-client",
    }
    everything = {p.packages for p in NetnsProvider().check()}
    assert {("dnsmasq-base",), ("bird2",), ("isc-dhcp-client",)} <= everything


@pytest.fixture
def lan(build: Build) -> Layout:
    return build(Lan)


@pytest.mark.real
def test_address_is_lent_and_not_for_ever(lan: Layout) -> None:
    shown = lan["pc"].run("ip address show eth0").stdout
    assert re.search(r"inet 10\.0\.0\.7/24 .* dynamic eth0\s+valid_lft 3\d\d\dsec", shown)


@pytest.mark.real
def test_metric_of_the_link_is_that_of_the_route_that_it_is_told(build: Build) -> None:
    class Routed(Layout):
        lan = Network(v4=V4Config(network="10.0.0.0/24", gateway="10.0.0.1"))
        server = Machine(links={"eth0": lan.at(".1")}, roles=[DhcpServer()])
        pc = Machine(links={"eth0": lan.at(".7", dhcp=True, metric=77)})
        bare = Machine(links={"eth0": lan.at(".8", dhcp=True, gateway=False)})

    routed = build(Routed)
    assert "via 10.0.0.1 dev eth0 proto dhcp metric 77" in (
        routed["pc"].run("ip route show default").stdout
    )
    assert routed["bare"].run("ip route show default").stdout == ""


@pytest.mark.real
def test_route_by_a_link_that_asks_is_there_with_its_address(build: Build) -> None:
    class Routed(Layout):
        lan = Network("10.0.0.0/24", v6=V6Config(network="fd00:5::/64", slaac=True))
        far = Network("10.9.0.0/24", "fd00:9::/64")
        server = Machine(
            links={"eth0": lan.at(".1", "::1", slaac=False), "eth1": far.at(".1", "::1")},
            forward=True,
            roles=[DhcpServer()],
        )
        pc = Machine(
            links={"eth0": lan.at(".7", dhcp=True)},
            routes={"10.9.0.0/24": ".1", "fd00:9::/64": "fd00:5::1"},
        )
        host = Machine(
            links={"eth0": far.at(".2", "::2")}, routes={"10.0.0.0/24": ".1", "fd00:5::/64": "::1"}
        )

    pc = build(Routed)["pc"]
    assert pc.ping("10.9.0.2") < 1.0
    assert pc.ping("fd00:9::2") < 1.0


@pytest.mark.real
def test_address_from_an_advertised_prefix_is_there_when_the_machine_is(build: Build) -> None:
    class Advertised(Layout):
        lan = Network(v6=V6Config(network="fd00:5::/64", slaac=True, gateway="fd00:5::1"))
        router = Machine(
            links={"eth0": lan.at("::1", slaac=False)}, forward=True, roles=[DhcpServer()]
        )
        pc = Machine(links={"eth0": lan.at()})

    pc = build(Advertised)["pc"]
    assert pc.address("lan") in pc.run("ip -6 address show eth0 scope global").stdout
    assert "default via fe80:" in pc.run("ip -6 route show default").stdout
    assert pc.ping("fd00:5::1") < 1.0


@pytest.mark.real
def test_prefix_that_nobody_advertises_fails_in_time_with_its_name(build: Build) -> None:
    class Silent(Layout):
        lan = Network(v6=V6Config(network="fd00:5::/64", slaac=True))
        other = Network("10.1.0.0/24")
        server = Machine(
            links={"eth0": lan.at("::1", slaac=False), "eth1": other.at(".1")},
            roles=[DhcpServer(networks=("other",))],
        )
        pc = Machine(links={"eth0": lan.at()}, ready_timeout_s=0.5)

    with pytest.raises(
        CreationError,
        match=r"machine 'pc' of layout 'Silent': link 'eth0' to network 'lan': no router "
        r"advertised fd00:5::/64 after 0\.5 s \(last: it has fe80:.*\); try: a machine with",
    ):
        build(Silent)


@pytest.mark.real
def test_link_that_nobody_answers_fails_in_time_with_its_name(build: Build) -> None:
    class Deaf(Layout):
        lan = Network("10.0.0.0/24")
        # the server is there, but serves another network
        other = Network("10.1.0.0/24")
        server = Machine(
            links={"eth0": lan.at(".1"), "eth1": other.at(".1")},
            roles=[DhcpServer(networks=("other",))],
        )
        pc = Machine(links={"eth0": lan.at(".7", dhcp=True)}, ready_timeout_s=1.5)

    begin = time.monotonic()
    with pytest.raises(
        CreationError,
        match=r"machine 'pc' of layout 'Deaf': link 'eth0' to network 'lan': no lease by DHCP "
        r"after 1\.5 s \(last: DHCPDISCOVER on eth0 .*\); log: .*pc\.eth0\.dhcp4\.log; "
        r"try: a machine with roles=\[DhcpServer\(\)\] on network 'lan'",
    ):
        build(Deaf)
    assert time.monotonic() - begin < 10


@pytest.mark.real
def test_link_that_is_not_required_is_not_waited_for(build: Build) -> None:
    class Patient(Layout):
        lan = Network(
            v4=V4Config(network="10.0.0.0/24", dhcp_ranges=[("10.0.0.100", "10.0.0.150")])
        )
        other = Network("10.1.0.0/24")
        server = Machine(
            links={"eth0": lan.at(".1"), "eth1": other.at(".1")},
            roles=[DhcpServer(networks=("other",))],
        )
        pc = Machine(links={"eth0": lan.at(dhcp=True, required=False)})

    pc = build(Patient)["pc"]
    assert pc.addresses == {}
    with pytest.raises(LookupError, match="no address in network 'lan'"):
        pc.address("lan")


def clients(environment: Layout) -> list[str]:
    """Clients that run in the fabric, whose processes the host sees, too."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            logs = (folder / "fd" / "2").readlink()
        except OSError:
            continue
        if line.startswith("dhclient") and environment.name in str(logs):
            found.append(line)
    return found


@pytest.mark.real
def test_client_ends_with_its_machine_and_with_its_layout(lan: Layout) -> None:
    assert len(clients(lan)) == 1
    lan["pc"].stop()
    assert clients(lan) == []
    lan["pc"].start()
    assert len(clients(lan)) == 1
    lan.remove("pc")
    assert clients(lan) == []
    lan.add(name="pc", machine=Machine(links={"eth0": Lan.lan.at(".7", dhcp=True)}))
    assert len(clients(lan)) == 1
    end(lan)
    assert clients(lan) == []


@pytest.mark.real
def test_client_that_nobody_answered_ends_with_the_machine_that_was_not_made(build: Build) -> None:
    class Half(Layout):
        lan = Network("10.0.0.0/24")
        other = Network("10.1.0.0/24")
        server = Machine(
            links={"eth0": lan.at(".1"), "eth1": other.at(".1")},
            roles=[DhcpServer(networks=("other",))],
        )

    half = build(Half)
    late = Machine(links={"eth0": Half.lan.at(".7", dhcp=True)}, ready_timeout_s=1.0)
    with pytest.raises(CreationError, match="no lease by DHCP after 1 s"):
        half.add(name="late", machine=late)
    assert clients(half) == []
    assert list(half.plan.machines) == ["server"]


@pytest.mark.real
def test_crashed_machine_says_no_goodbye_and_gets_its_address_again(lan: Layout) -> None:
    server, pc = lan["server"], lan["pc"]
    with pc.crash():
        assert clients(lan) == []
        assert "DHCPRELEASE" not in server.logs()
    assert pc.address("lan") == "10.0.0.7"
    pc.stop()
    assert "DHCPRELEASE(eth0) 10.0.0.7 " in server.logs()
