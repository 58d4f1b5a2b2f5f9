"""One network of two live layouts, with packets between them; and what cannot be one."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, cast

import pytest

from pytest_carthage import HostError, Layout, LayoutError, Machine, Network
from pytest_carthage.events import Recorder
from pytest_carthage.fabric.host import privilege
from pytest_carthage.fabric.wire import client
from pytest_carthage.live.openings.span import Span
from tests.live.conftest import Build, end
from tests.support.unprivileged import REPOSITORY, as_user

pytestmark = pytest.mark.real


# docs: sites
class East(Layout):
    """Its own LAN has the addresses of the other site's."""

    stretch = Network("192.0.2.0/24", "fd00:9::/64")
    second = Network("198.51.100.0/24", vni=77)
    lan = Network("10.0.0.0/24")
    one = Machine(
        links={
            "eth0": stretch.at(".1", "::1"),
            "eth1": second.at(".1"),
            "eth2": lan.at(".1"),
        }
    )


class West(Layout):
    stretch = Network("192.0.2.0/24", "fd00:9::/64")
    second = Network("198.51.100.0/24", vni=77)
    lan = Network("10.0.0.0/24")
    two = Machine(
        links={
            "eth0": stretch.at(".2", "::2"),
            "eth1": second.at(".2"),
            "eth2": lan.at(".2"),
        }
    )
    # docs: end


class North(Layout):
    stretch = Network("192.0.2.0/24", "fd00:9::/64")
    three = Machine(links={"eth0": stretch.at(".3", "::3")})


@pytest.fixture
def span_privileges() -> None:
    if not privilege.is_privileged():
        pytest.skip("a span needs root")


@pytest.fixture
def sites(build: Build, span_privileges: None) -> tuple[Layout, Layout]:
    return build(East), build(West)


def join(one: Layout, two: Layout, network: str = "stretch") -> Span:
    return one.span(two, network)


def reaches(environment: Layout, machine: str, address: str, within_s: float = 5.0) -> bool:
    """Whether a machine reaches an address; who was asked for in vain is asked for each second."""
    try:
        environment[machine].ping(address, timeout_s=within_s)
    except (TimeoutError, OSError):
        return False
    return True


def in_fabric(environment: Layout, command: str) -> Any:
    """What a command of iproute2 says, in JSON, in the fabric's own network."""
    out = environment.folder / "out"
    with client.connect(str(environment.aio.socket)) as fabric, out.open("w+b") as file:
        reply, _ = fabric.request(
            "inside",
            fds=(file.fileno(), file.fileno(), file.fileno()),
            argv=["sh", "-c", command],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )
        assert reply["status"] == 0, out.read_text()
    return json.loads(out.read_text() or "[]")


def names(environment: Layout) -> list[str]:
    return sorted(row["ifname"] for row in in_fabric(environment, "ip -j link"))


def test_span_joins_one_network_and_no_other(sites: tuple[Layout, Layout]) -> None:
    east, west = sites
    before = names(east), names(west)
    assert not reaches(east, "one", "192.0.2.2", 0.7)
    with join(east, west) as joined:
        opened = joined.is_open
        for address in ("192.0.2.2", "fd00:9::2"):
            assert reaches(east, "one", address), address
        assert reaches(west, "two", "192.0.2.1")
        assert not reaches(east, "one", "198.51.100.2", 0.7)
        assert not reaches(east, "one", "10.0.0.2", 0.7)
    assert (opened, joined.is_open) == (True, False)
    assert not reaches(east, "one", "192.0.2.2", 0.7)
    assert (names(east), names(west)) == before
    joined.close()  # twice is no error


def test_span_of_live_layouts_reads_as_in_the_docs(
    sites: tuple[Layout, Layout],
) -> None:
    east, west = cast("East", sites[0]), sites[1]
    # docs: span
    with east.span(west, "stretch"):
        assert east.one.ping("192.0.2.2") < 1
    # docs: end
    with pytest.raises(TimeoutError):
        east.one.ping("192.0.2.2", timeout_s=0.3)

    async def awaited() -> float:
        # docs: aio
        async with east.aio.span(west.aio, "stretch"):
            return await east.one.aio.ping("192.0.2.2")
        # docs: end

    assert asyncio.run(awaited()) < 1


def test_span_keeps_the_mtu_of_the_network(sites: tuple[Layout, Layout]) -> None:
    east, west = sites
    with join(east, west):
        listener = _socket(west, "two")
        client_ = _socket(east, "one")
        listener.bind(("192.0.2.2", 4000))
        listener.listen()
        received: list[bytes] = []

        def take() -> None:
            taken, _ = listener.accept()
            with taken:
                while data := taken.recv(1 << 16):
                    received.append(data)

        thread = threading.Thread(target=take)
        thread.start()
        client_.settimeout(10)
        client_.connect(("192.0.2.2", 4000))
        most = client_.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
        client_.sendall(bytes(3_000_000))
        client_.close()
        thread.join(15)
        listener.close()
        # 1500 less IP, TCP and time stamps
        assert (most, sum(map(len, received))) == (1448, 3_000_000)


def _socket(environment: Layout, machine: str) -> socket.socket:
    with client.connect(str(environment.aio.socket)) as fabric:
        _, fds = fabric.request("socket", machine=machine)
    return socket.socket(fileno=fds[0])


def test_fabric_of_a_span_has_no_address(sites: tuple[Layout, Layout]) -> None:
    east, west = sites
    with join(east, west):
        for environment in sites:
            rows = in_fabric(environment, "ip -j address")
            found = [info["local"] for row in rows for info in row["addr_info"]]
            assert set(found) <= {"127.0.0.1", "::1"}
        # a machine that tries its best does not get to the cable
        one = east["one"]
        one.run("ip route add 169.254.0.0/16 dev eth0")
        assert not reaches(east, "one", "169.254.0.1", 0.7)
        assert not reaches(east, "one", "169.254.0.2", 0.7)


def test_two_spans_of_one_pair_are_apart(sites: tuple[Layout, Layout]) -> None:
    east, west = sites
    first = join(east, west)
    with join(west, east, "second") as second:
        assert second.vni == 77
        assert first.vni != 77
        assert reaches(east, "one", "192.0.2.2")
        assert reaches(east, "one", "198.51.100.2")
        first.close()
        assert reaches(east, "one", "198.51.100.2")
        assert not reaches(east, "one", "192.0.2.2", 0.7)
    assert not reaches(east, "one", "198.51.100.2", 0.7)


def test_span_over_three_layouts_carries_on_but_makes_no_loop(
    build: Build, sites: tuple[Layout, Layout]
) -> None:
    east, west = sites
    north = build(North)
    with join(east, west), join(west, north) as last:
        assert reaches(east, "one", "192.0.2.3")
        loop = r"are joined there already; a second way would be a loop"
        with pytest.raises(LayoutError, match=loop):
            join(north, east)
        with pytest.raises(LayoutError, match=loop):
            join(west, east)
        last.close()
        with join(north, east):
            assert reaches(north, "three", "192.0.2.2")


@pytest.mark.parametrize("first", [0, 1])
def test_span_whose_environment_is_closed_first_closes_without_error(
    sites: tuple[Layout, Layout], first: int
) -> None:
    joined = join(*sites)
    end(sites[first])
    other = sites[1 - first]
    joined.close()
    assert [name for name in names(other) if name.startswith("span")] == []
    end(other)


def test_span_that_nobody_closes_ends_with_the_environments(
    build: Build, sites: tuple[Layout, Layout]
) -> None:
    east, west = sites
    join(east, west)
    end(east)
    # the other one lives on, and can be joined anew
    again = build(East)
    with join(again, west):
        assert reaches(again, "one", "192.0.2.2")


def test_span_is_told_to_both_environments(
    sites: tuple[Layout, Layout], recorder: Recorder
) -> None:
    east, west = sites
    with join(east, west) as joined:
        pass
    for environment, other in ((east, west), (west, east)):
        told = [
            (event.kind, event.text)
            for event in recorder.of(environment.name)
            if event.subject == "span stretch"
        ]
        assert told == [
            ("start", f"to {other.name}: VXLAN {joined.vni}"),
            ("done", f"to {other.name}"),
        ]


def test_span_that_fails_half_way_leaves_nothing(
    sites: tuple[Layout, Layout], recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    east, west = sites
    before = names(east)
    # the other end of the tunnel has no bridge to be on
    bridge = west.plan.networks["stretch"].bridge
    object.__setattr__(west.plan.networks["stretch"], "bridge", "br-gone")
    with pytest.raises(Exception, match=r"no network on bridge 'br-gone'"):
        join(east, west)
    assert names(east) == before
    object.__setattr__(west.plan.networks["stretch"], "bridge", bridge)
    with join(east, west):
        assert reaches(east, "one", "192.0.2.2")


# what cannot be one network


class Strange(Layout):
    """Nothing here fits to East."""

    stretch = Network("192.0.2.0/25")
    second = Network("198.51.100.0/24", vni=78)
    lan = Network("10.0.0.0/24", mtu=1400)
    two = Machine(links={"eth0": stretch.at(".2")})


class Twin(Layout):
    second = Network("198.51.100.0/24")
    lan = Network("10.0.0.0/24")
    stretch = Network("192.0.2.0/24", "fd00:9::/64")
    other = Machine(links={"eth0": lan.at(".1"), "eth1": stretch.at(".9", "::1")})


class Wire(Layout):
    lan = Network("10.0.0.0/24", kind="point-to-point")
    a = Machine(links={"eth0": lan.at(".8")})
    b = Machine(links={"eth0": lan.at(".9")})


@pytest.mark.parametrize(
    ("layout", "network", "message"),
    [
        (West, "dmz", r"layout 'East' has no such network; it has stretch, second, lan"),
        (North, "lan", r"layout 'North' has no such network; it has stretch"),
        (
            Strange,
            "stretch",
            r"its IPv4 addresses are 192.0.2.0/24 in layout 'East' and 192.0.2.0/25 in layout "
            r"'Strange'; try: the same in both",
        ),
        (Strange, "second", r"its VNI is 77 in layout 'East' and 78 in layout 'Strange'"),
        (Strange, "lan", r"its MTU is 1500 in layout 'East' and 1400 in layout 'Strange'"),
        (
            Twin,
            "lan",
            r"10.0.0.1 is both eth2 of machine 'one' of layout 'East' and eth0 of machine 'other' "
            r"of layout 'Twin'; try: another address on one side",
        ),
        (Twin, "stretch", r"fd00:9::1 is both eth0 of machine 'one'"),
        (Wire, "lan", r"in layout 'Wire' it is of kind point-to-point, whose ends are all in"),
    ],
)
def test_span_of_what_does_not_fit_is_refused(
    build: Build, span_privileges: None, layout: type[Layout], network: str, message: str
) -> None:
    east, other = build(East), build(layout)
    with pytest.raises((LookupError, LayoutError), match=rf"^span of network '{network}': .*"):
        join(east, other, network)
    with pytest.raises((LookupError, LayoutError), match=message):
        join(east, other, network)


def test_span_with_itself_is_refused(build: Build) -> None:
    east = build(East)
    with pytest.raises(LayoutError, match=r"layout 'East' cannot be joined with itself"):
        join(east, east)


@pytest.mark.skipif(privilege.is_privileged(), reason="is run without privileges by another test")
def test_span_without_privileges_is_refused(build: Build) -> None:
    east, west = build(East), build(West)
    with pytest.raises(HostError, match=r"span: network 'stretch' cannot span two layouts with"):
        join(east, west)


@pytest.mark.skipif(os.geteuid() != 0, reason="is run as it is, without privileges")
def test_span_without_privileges_is_refused_to_an_ordinary_user(tmp_path: Path) -> None:
    name = test_span_without_privileges_is_refused.__name__
    test = f"{Path(__file__).relative_to(REPOSITORY)}::{name}"
    done = subprocess.run(
        as_user(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test], home=tmp_path
        ),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
