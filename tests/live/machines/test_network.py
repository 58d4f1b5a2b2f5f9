"""What a machine's kernel says of its network, and pyroute2 in it; as root, and as a user."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import Layout, Machine, Network
from pytest_carthage.errors import HostError, UnsupportedError
from pytest_carthage.fabric.host import privilege
from pytest_carthage.handles.network import NextHop
from pytest_carthage.live.machines.iproute import library
from tests.support.unprivileged import REPOSITORY, as_user

pytestmark = pytest.mark.real


class Net(Layout):
    """Two machines on a network of both families, one on a network that is told to have no IPv6."""

    lan = Network("10.0.0.0/24", "fd00:7::/64")
    four = Network("10.4.0.0/24")
    old = Network("10.9.0.0/24", ipv6=False)
    a = Machine(
        links={"eth0": lan.at(".1", "::1"), "eth1": four.at(".1"), "eth2": old.at(".1")},
        forward=True,
    )
    b = Machine(links={"eth0": lan.at(".2", "::2", gateway=".1"), "eth1": four.at(".2")})


net = Net.fixture()


def test_addresses_are_those_of_the_kernel_with_link_local_ones(net: Net) -> None:
    eth0 = {one.address: one for one in net.a.network.addresses("eth0")}
    assert {ip_interface("10.0.0.1/24"), ip_interface("fd00:7::1/64")} < set(eth0)
    (near,) = [one for one in eth0.values() if one.is_link_local]
    assert (near.scope, near.interface, near.is_tentative) == ("link", "eth0", False)
    assert eth0[ip_interface("10.0.0.1/24")].scope == "global"
    # a network without a subnet of IPv6 has them, too, and one without IPv6 has none
    assert [one.ip.version for one in net.a.network.addresses("eth1")] == [4, 6]
    assert [one.ip.version for one in net.a.network.addresses("eth2")] == [4]


def test_link_local_neighbour_answers_where_there_is_no_subnet(net: Net) -> None:
    (other,) = [one.ip for one in net.b.network.addresses("eth1") if one.is_link_local]
    net.a.ping(f"{other}%eth1")
    known = {one.address: one for one in net.a.network.neighbours()}
    assert known[other].mac == net.b.links["eth1"].mac
    assert known[other].interface == "eth1"


def test_interfaces_tell_their_state(net: Net) -> None:
    states = {one.name: one for one in net.a.network.interfaces()}
    assert set(states) == {"lo", "eth0", "eth1", "eth2"}
    assert states["eth0"].mac == net.a.links["eth0"].mac
    assert (states["eth0"].kind, states["eth0"].mtu) == ("veth", 1500)
    assert states["eth0"].is_up
    assert states["eth0"].has_carrier
    with net.a.link("eth0").down():
        assert not {one.name: one for one in net.a.network.interfaces()}["eth0"].has_carrier


def test_routes_are_those_of_the_kernel(net: Net) -> None:
    routes = {one.destination: one for one in net.b.network.routes()}
    default = routes[ip_network("0.0.0.0/0")]
    assert default.is_default
    assert default.hops == (NextHop(via=ip_address("10.0.0.1"), interface="eth0"),)
    near = routes[ip_network("10.4.0.0/24")]
    assert (near.via, near.interface, near.protocol) == (None, "eth1", "kernel")
    assert near.source == ip_address("10.4.0.2")
    assert ip_network("fd00:7::/64") in routes
    kinds = {one.kind for one in net.b.network.routes(table=None)}
    assert {"unicast", "local", "broadcast"} <= kinds


def test_route_to_an_address_is_the_one_that_a_packet_takes(net: Net) -> None:
    route = net.b.network.route_to("198.51.100.7")
    assert route is not None
    assert (str(route.via), route.interface, str(route.source)) == ("10.0.0.1", "eth0", "10.0.0.2")
    assert net.a.network.route_to("198.51.100.7") is None
    assert net.b.network.route_to("2001:db8::1") is None


def test_counters_count_what_passes(net: Net) -> None:
    before = net.a.network.counters("eth1")
    with net.a.iproute() as ipr:
        assert ipr.link_lookup(ifname="eth1")
    net.a.ping("10.4.0.2")
    after = net.a.network.counters("eth1")
    assert after.sent_packets > before.sent_packets
    assert after.received_bytes >= before.received_bytes + 64
    with pytest.raises(LookupError, match=r"machine 'a' of layout 'Net': no interface 'eth9'; it"):
        net.a.network.counters("eth9")


def test_iproute_reads_and_changes_routes_links_and_neighbours(net: Net) -> None:
    with net.b.iproute() as ipr:
        (eth1,) = ipr.link_lookup(ifname="eth1")
        hops: list[dict[str, Any]] = [
            {"gateway": "10.4.0.1", "oif": eth1, "hops": 1},
            {"gateway": "10.0.0.1"},
        ]
        ipr.route("add", dst="203.0.113.0/24", multipath=hops, priority=7)
        ipr.route("add", dst="192.0.2.0/24", type="blackhole", table=100)
        ipr.neigh("add", dst="10.4.0.77", lladdr="02:00:00:00:00:77", ifindex=eth1, state=128)
        ipr.link("set", index=eth1, mtu=1400)
        ipr.addr("add", index=eth1, address="10.4.0.22", prefixlen=24)
        assert any(message.get("table") == 100 for message in ipr.route("dump", table=100))
    view = net.b.network
    (both,) = [one for one in view.routes() if one.destination == ip_network("203.0.113.0/24")]
    assert both.metric == 7
    assert both.hops == (
        NextHop(via=ip_address("10.4.0.1"), interface="eth1", weight=2),
        NextHop(via=ip_address("10.0.0.1"), interface="eth0"),
    )
    (nowhere,) = view.routes(table=100)
    assert (nowhere.kind, nowhere.hops) == ("blackhole", ())
    (mine,) = [one for one in view.neighbours() if one.address == ip_address("10.4.0.77")]
    assert (mine.state, mine.mac) == ("permanent", "02:00:00:00:00:77")
    assert {one.name: one.mtu for one in view.interfaces()}["eth1"] == 1400
    assert ip_interface("10.4.0.22/24") in {one.address for one in view.addresses("eth1")}
    assert "blackhole 192.0.2.0/24" in net.b.run("ip route show table 100").stdout


def test_iproute_hears_of_changes(net: Net) -> None:
    with net.a.iproute() as ipr:
        ipr.bind()
        adding = threading.Thread(target=net.a.run, args=("ip route add 192.0.2.7 dev eth1",))
        adding.start()
        seen: list[str | None] = []
        while "192.0.2.7" not in seen:
            seen += [message.get("dst") for message in ipr.get()]
        adding.join(10)


async def _asynchronously(net: Net) -> tuple[set[str], int]:
    async with await net.a.aio.iproute() as ipr:
        names = {link.get("ifname") async for link in await ipr.link("dump")}
    return names, len(await net.a.aio.network.addresses("eth0"))


def test_both_are_there_for_coroutines_of_any_loop(net: Net) -> None:
    import asyncio

    names, addresses = asyncio.run(_asynchronously(net))
    assert "eth2" in names
    assert addresses == 3


def test_iproute_in_a_running_loop_points_to_its_other_form(net: Net) -> None:
    import asyncio

    async def wrong() -> None:
        net.a.iproute()

    with pytest.raises(RuntimeError, match=r"machine 'a' of.*await machine\.aio\.iproute\(\)"):
        asyncio.run(wrong())


def test_what_pyroute2_would_do_outside_of_the_machine_is_refused(net: Net) -> None:
    expected = r"machine 'a' of.*tun or tap device.*try: run\('ip tuntap add"
    with net.a.iproute() as ipr, pytest.raises(UnsupportedError, match=expected):
        ipr.link("add", ifname="tun0", kind="tuntap", mode="tun")
    assert "tun0" not in {one.name for one in net.a.network.interfaces()}


def test_iproute_without_its_library_says_how_to_get_it(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyroute2", None)
    expected = r"machine 'a' of layout 'Net' are pyroute2's, which .*pytest-carthage\[iproute\]"
    with pytest.raises(HostError, match=expected):
        net.a.iproute()


def test_library_that_is_too_old_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import pyroute2

    monkeypatch.setattr(pyroute2, "__version__", "0.7.12")
    with pytest.raises(HostError, match=r"has 0\.7\.12, older than 0\.9\.1"):
        library("machine 'a'")


@pytest.mark.skipif(os.geteuid() != 0, reason="the others are run as they are")
def test_ordinary_user_has_all_that() -> None:
    if problems := privilege.user_namespace_problems():
        pytest.skip("; ".join(map(str, problems)))
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    # pytest's own temporary folders are closed to others
    with tempfile.TemporaryDirectory(prefix="unprivileged-") as home:
        done = subprocess.run(
            as_user(argv, home=Path(home)),
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert "13 passed, 1 skipped" in done.stdout, done.stdout + done.stderr
