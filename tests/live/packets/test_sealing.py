"""The proof that a layout is sealed, and real holes that it must find."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface
from pathlib import Path

import pytest

from pytest_carthage import Layout, Machine, Network
from pytest_carthage.errors import TimeLimitError
from pytest_carthage.fabric import netlink
from pytest_carthage.live.packets import probes
from pytest_carthage.live.packets.packets import dissect
from pytest_carthage.live.packets.sealing import targets, trial
from pytest_carthage.model.addresses.ipconfig import V6Config
from pytest_carthage.state.listing import list_environments
from tests.live.conftest import Build
from tests.support.unprivileged import REPOSITORY, as_user

# they lead out into this host's own network, and look what arrives there: one at a time
pytestmark = [pytest.mark.real, pytest.mark.xdist_group("host-network")]

#: ends of the cable that leads out; another session of these tests may run on this host
NEAR, FAR = f"near{os.getpid()}", f"leak{os.getpid()}"
#: for benchmarks of networks (RFC 2544), the documentation's IPv6: nobody's here
INSIDE, OUTSIDE = "198.18.7.1", "198.18.7.2"
INSIDE6, OUTSIDE6 = "2001:db8:7::1", "2001:db8:7::2"


class Shop(Layout):
    """A network with the addresses of the hole's far side, and one with other addresses."""

    lan = Network("198.18.7.0/24", v6=V6Config(network="2001:db8:7::/64"))
    far = Network("10.0.0.0/24")
    web = Machine(links={"eth0": lan.at(".1", "::1")})
    # who answers a packet of db's has to answer gw: nothing must go by the host's own routes
    gw = Machine(
        links={"lan0": lan.at(".3", "::3", masquerade=True), "far0": far.at(".3")}, forward=True
    )
    db = Machine(links={"eth0": far.at(".10", gateway=".3")})


@pytest.fixture
def shop(build: Build) -> Shop:
    return build(Shop)


@pytest.fixture
def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")


def ip(*arguments: str, fabric: int | None = None, check: bool = True) -> str:
    """Run ip, in the host's network namespace or in a fabric's."""
    prefix = ["nsenter", f"--target={fabric}", "--net", "--"] if fabric is not None else []
    done = subprocess.run([*prefix, "ip", *arguments], capture_output=True, text=True, check=check)
    return done.stdout


def fabric_of(layout: Layout) -> int:
    """Process id of a layout's fabric."""
    (found,) = [one for one in list_environments() if one.name == layout.name]
    return int(found.description["pid"])


@pytest.fixture
def other_namespace() -> Iterator[int]:
    """A process in a network namespace of its own."""
    process = subprocess.Popen(["unshare", "--net", "sleep", "600.77"])
    own = Path("/proc/self/ns/net").readlink()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{process.pid}/ns/net").readlink() == own:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    yield process.pid
    process.kill()
    process.wait()


@contextlib.contextmanager
def hole(layout: Layout, bridge: str, into: int) -> Iterator[str]:
    """A cable from a bridge of a layout into a namespace; its end there is ``FAR``."""
    fabric = fabric_of(layout)
    ip(
        "link",
        "add",
        NEAR,
        "type",
        "veth",
        "peer",
        "name",
        FAR,
        "netns",
        str(into),
        fabric=fabric,
    )
    try:
        ip("link", "set", NEAR, "master", bridge, "up", fabric=fabric)
        yield FAR
    finally:
        ip("link", "delete", NEAR, fabric=fabric)


def wait_until_open(fabric: int, port: str = NEAR) -> None:
    """Wait until a bridge passes frames to its end of a cable: it takes its time to notice."""
    deadline = time.monotonic() + 10
    while "state forwarding" not in ip("-details", "link", "show", port, fabric=fabric):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def host_hole(shop: Shop, as_root: None) -> Iterator[None]:
    """A cable into the host's own namespace, with addresses of its own there."""
    with hole(shop, "br-lan", os.getpid()) as end:
        ip("address", "add", f"{OUTSIDE}/24", "dev", end)
        ip("address", "add", f"{OUTSIDE6}/64", "dev", end, "nodad")
        ip("link", "set", end, "up")
        wait_until_open(fabric_of(shop))
        yield


def test_sealed_layout_is_proved_and_reported(shop: Shop) -> None:
    report = shop.assert_sealed()
    assert report.layout == "Shop"
    assert set(report.probes) >= {"ICMP over IPv4", "UDP over IPv4", "TCP over IPv4", "ARP"}
    assert "neighbour solicitation" in report.probes
    assert "this host" in report.destinations.values()
    assert report.watched["its own networks"].startswith("packet socket")
    assert report.silent == ()
    assert report.frames > sum(report.probes.values()) / 2
    assert report.duration_s < 3
    assert str(report).startswith("layout 'Shop' is sealed: ")


def test_hole_to_the_host_is_found_by_every_protocol(shop: Shop, host_hole: None) -> None:
    with pytest.raises(AssertionError, match=r"^layout 'Shop' is not sealed:") as caught:
        shop.assert_sealed()
    text = str(caught.value)
    shown = text.splitlines()
    assert len(shown) == 12
    assert re.search(r"^  and \d+ more$", shown[-1])


@pytest.mark.parametrize(
    ("protocol", "destination"),
    [
        ("ICMP over IPv4", OUTSIDE),
        ("UDP over IPv4", OUTSIDE),
        ("TCP over IPv4", OUTSIDE),
        ("ICMP over IPv6", OUTSIDE6),
        ("UDP over IPv6", OUTSIDE6),
        ("TCP over IPv6", OUTSIDE6),
        ("ARP", OUTSIDE),
        ("neighbour solicitation", OUTSIDE6),
        ("UDP over IPv4, in a frame to everybody", OUTSIDE),
    ],
)
def test_hole_to_the_host_is_told_with_who_where_and_how(
    shop: Shop,
    host_hole: None,
    monkeypatch: pytest.MonkeyPatch,
    protocol: str,
    destination: str,
) -> None:
    monkeypatch.setattr(trial, "_MOST_TOLD", 10_000)
    expected = (
        rf"a packet of machine 'web' to {destination} \(this host\) by {protocol} "
        rf"was seen in this host, on {FAR}\n"
    )
    with pytest.raises(AssertionError, match=expected):
        shop.assert_sealed()


def test_hole_is_found_by_dns_where_it_leads_to_the_resolver(
    shop: Shop, host_hole: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(trial, "_MOST_TOLD", 10_000)
    monkeypatch.setattr(targets, "_RESOLV_CONF", tmp_path / "resolv.conf")
    (tmp_path / "resolv.conf").write_text(f"search example\nnameserver {OUTSIDE}\nnameserver x\n")
    with pytest.raises(AssertionError, match=rf"to {OUTSIDE} .* by DNS was seen in this host"):
        shop.assert_sealed()


def test_hole_behind_a_router_is_found(
    shop: Shop, host_hole: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "_MOST_TOLD", 10_000)
    with pytest.raises(AssertionError, match=rf"machine 'db' to {OUTSIDE} .*by ICMP over IPv4"):
        shop.assert_sealed()


def test_layout_is_sealed_again_when_the_hole_is_closed(shop: Shop, as_root: None) -> None:
    with hole(shop, "br-lan", os.getpid()) as end:
        ip("address", "add", f"{OUTSIDE}/24", "dev", end)
        ip("link", "set", end, "up")
        wait_until_open(fabric_of(shop))
        with pytest.raises(AssertionError, match="not sealed"):
            shop.assert_sealed()
    shop.assert_sealed()


def test_hole_into_a_namespace_that_nobody_watches_is_found_where_it_begins(
    shop: Shop, other_namespace: int, as_root: None
) -> None:
    expected = rf"by ARP left by {NEAR}, which is no part of the layout"
    with hole(shop, "br-lan", other_namespace):
        ip("link", "set", FAR, "up", fabric=other_namespace)
        wait_until_open(fabric_of(shop))
        with pytest.raises(AssertionError, match=expected):
            shop.assert_sealed()


def test_hole_to_another_layout_is_found(shop: Shop, build: Build, as_root: None) -> None:
    other = build(Shop)
    shop.assert_sealed()
    with hole(shop, "br-lan", fabric_of(other)):
        ip("link", "set", FAR, "master", "br-lan", "up", fabric=fabric_of(other))
        wait_until_open(fabric_of(shop))
        wait_until_open(fabric_of(other), FAR)
        expected = rf"was seen in environment {other.name}, on {FAR}"
        with pytest.raises(AssertionError, match=expected):
            shop.assert_sealed()
        with pytest.raises(AssertionError, match=rf"was seen in environment {shop.name}"):
            other.assert_sealed()


class West(Layout):
    """The far side of a span of ``lan``."""

    lan = Network("198.18.7.0/24", v6=V6Config(network="2001:db8:7::/64"))
    far_web = Machine(links={"eth0": lan.at(".21", "::21")})


def test_declared_span_is_no_hole_and_other_layouts_are_apart_as_before(
    shop: Shop, build: Build, as_root: None
) -> None:
    west, third = build(West), build(Shop)
    with shop.span(west, "lan"):
        shop.web.ping("198.18.7.21")  # it is open
        shop.assert_sealed()
        west.assert_sealed()
        with hole(shop, "br-lan", fabric_of(third)):
            ip("link", "set", FAR, "master", "br-lan", "up", fabric=fabric_of(third))
            wait_until_open(fabric_of(shop))
            expected = rf"was seen in environment {third.name}, on {FAR}"
            with pytest.raises(AssertionError, match=expected):
                shop.assert_sealed()
    shop.assert_sealed()


def test_what_comes_in_is_found(shop: Shop, other_namespace: int, as_root: None) -> None:
    code = """
import socket, time
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
s.bind(("END", 0))
while True:
    s.send(b"\\xff" * 6 + b"\\x02stray" + b"\\x88\\xb5" + b"stray" * 20)
    time.sleep(0.02)
""".replace("END", FAR)
    with hole(shop, "br-lan", other_namespace):
        ip("link", "set", FAR, "up", fabric=other_namespace)
        wait_until_open(fabric_of(shop))
        sender = subprocess.Popen(
            ["nsenter", f"--target={other_namespace}", "--net", sys.executable, "-c", code]
        )
        try:
            expected = (
                rf"a packet of nobody in the layout came in by {NEAR}: .*"
                r"02:73:74:72:61:79 > ff:ff:ff:ff:ff:ff 0x88b5, 100 bytes"
            )
            with pytest.raises(AssertionError, match=expected):
                shop.assert_sealed()
        finally:
            sender.kill()
            sender.wait()


def test_packets_that_nobody_asked_for_are_found_on_the_host(
    shop: Shop, as_root: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only probes: whatever a machine sends is known by its hardware address."""
    monkeypatch.setattr(trial, "_MOST_TOLD", 10_000)
    with hole(shop, "br-lan", os.getpid()) as end:
        ip("link", "set", end, "up")
        wait_until_open(fabric_of(shop))
        stop = threading.Event()

        def talk() -> None:
            while not stop.is_set():
                shop.web.run(
                    "python3 -c 'import socket; s=socket.socket(2, 2); "
                    's.setsockopt(1, 6, 1); s.sendto(b"chatter", ("198.18.7.255", 5353))\''
                )

        thread = threading.Thread(target=talk)
        thread.start()
        try:
            with pytest.raises(
                AssertionError,
                match=rf"a packet of machine 'web' was seen in this host, on {FAR}: .*:5353 udp",
            ):
                shop.assert_sealed()
        finally:
            stop.set()
            thread.join()


def test_faults_are_no_holes(shop: Shop) -> None:
    with shop.web.links["eth0"].impair(delay_ms=20):
        assert shop.assert_sealed().silent == ()
    with shop.partition({"web"}, {"gw"}):
        assert shop.assert_sealed().silent == ()
    with shop.db.freeze():
        assert shop.assert_sealed().silent == ()


def test_machine_whose_link_is_down_is_told_as_silent(shop: Shop) -> None:
    with shop.db.links["eth0"].down():
        assert shop.assert_sealed().silent == ("db.eth0",)
    assert shop.assert_sealed().silent == ()


def test_own_address_that_the_host_has_too_is_no_leak(build: Build) -> None:
    """Addresses may overlap: what counts is what is seen outside."""
    own = [row["address"] for row in netlink.addresses() if row["address"]]
    (host,) = {text for text in own if "." in text and not text.startswith("127.")} or {None}
    if host is None:
        pytest.skip("this host has not one address of its own")
    address = host.partition("/")[0]

    class Overlapping(Layout):
        lan = Network(str(ip_interface(host).network))
        one = Machine(links={"eth0": lan.at(address)})
        two = Machine(links={"eth0": lan.at("auto")})

    layout = build(Overlapping)
    layout.two.ping(address)
    report = layout.assert_sealed()
    assert report.destinations[address] == "this host"


def test_no_proof_in_time_is_told(shop: Shop) -> None:
    with pytest.raises(TimeLimitError, match=r"'Shop': no proof that it is sealed after 0\.01 s"):
        shop.assert_sealed(timeout_s=0.01)


UNPRIVILEGED = """
from pathlib import Path

from pytest_carthage import Layout, Machine, Network


class Shop(Layout):
    lan = Network("198.18.7.0/24")
    one = Machine(links={"eth0": lan.at(".1")})
    two = Machine(links={"eth0": lan.at(".2")})


shop = Shop.fixture()

def test_it(shop):
    print("REPORT", shop.assert_sealed().watched["this host"])
    with shop.capture("lan", "icmp") as seen, shop.one.link("eth0").capture() as link:
        shop.one.ping("two")
    assert [packet.icmp_type for packet in seen] == [8, 0]
    assert len(link) >= 2

def test_recording(shop):
    aio = shop.aio
    (found,) = aio.portal.call(aio.recording.write, Path("it.pcapng"))
    assert found.packets > 10
    assert not found.lost
"""


def test_without_privileges_sockets_listen_captures_run_and_the_report_says_so() -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are root's alone
        _prove_without_privileges(Path(folder))


def _prove_without_privileges(home: Path) -> None:
    (home / "test_it.py").write_text(UNPRIVILEGED)
    argv = [sys.executable, "-m", "pytest", "-q", "-rP", "-p", "no:cacheprovider"]
    argv += ["--carthage-pcap=all", "test_it.py"]
    done = subprocess.run(
        as_user(argv, home=home),
        capture_output=True,
        text=True,
        cwd=home,
        env={**os.environ, "CARTHAGE_STATE": f"{home}/state", "PYTHONPATH": str(REPOSITORY)},
    )
    if "is not built here" in done.stdout:
        pytest.skip(done.stdout.partition("is not built here")[2].splitlines()[1].strip())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert "REPORT no privileges for packet sockets: UDP and TCP sockets" in done.stdout


def test_hole_to_the_host_is_found_without_privileges_too(
    shop: Shop, host_hole: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "_MOST_TOLD", 10_000)
    real = socket.socket

    def refusing(family: int = -1, kind: int = -1, proto: int = -1, fileno: int | None = None):  # type: ignore[no-untyped-def]
        if family == socket.AF_PACKET and fileno is None:
            raise PermissionError(1, "Operation not permitted")
        return real(family, kind, proto, fileno)

    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", refusing)
        with pytest.raises(AssertionError, match="not sealed") as caught:
            shop.assert_sealed()
    text = str(caught.value)
    expected = rf"machine 'web' to {OUTSIDE} \(this host\) by UDP over IPv4 arrived there from"
    assert re.search(expected, text)
    assert re.search(rf"a TCP connection to {OUTSIDE} \(this host\) from {INSIDE} arrived", text)
    assert re.search(rf"machine 'web' to {OUTSIDE6} \(this host\) by UDP over IPv6 arrived", text)


@pytest.mark.parametrize("version", [4, 6])
def test_probes_are_packets_as_others_know_them(version: int) -> None:
    source, destination = (
        (ip_address(INSIDE), ip_address(OUTSIDE))
        if version == 4
        else (ip_address(INSIDE6), ip_address(OUTSIDE6))
    )
    packet = dissect(probes.frame(b"token", b"\x02" * 6, source, destination, 77))
    assert (packet.source_address, packet.destination_address) == (source, destination)
    assert (packet.protocol, packet.destination_port, packet.payload) == ("udp", 77, b"token")
    if version == 4:
        asked = dissect(probes.arp(b"token", b"\x02" * 6, destination))  # type: ignore[arg-type]
        assert asked.arp is not None
        assert asked.arp.target == destination
    else:
        asked = dissect(probes.solicitation(b"token", b"\x02" * 6, destination))  # type: ignore[arg-type]
        assert (asked.protocol, asked.icmp_type, asked.hops_left) == ("icmp6", 135, 255)
