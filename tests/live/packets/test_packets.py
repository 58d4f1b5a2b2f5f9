"""Packets taken apart, and captures as files."""

from __future__ import annotations

import io
import shutil
import subprocess
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_carthage import Layout, Machine, Network
from pytest_carthage.live.packets import pcapng, probes
from pytest_carthage.live.packets.packets import Owners, Packet, dissect
from pytest_carthage.planning import make_plan

DB_MAC, GW_MAC, WEB_MAC = b"\x02\x00\x00\x00\x00\x0a", b"\x02\x00\x00\x00\x00\x01", b"\x02" * 6
ONE, TWO = ip_address("10.0.0.10"), ip_address("10.0.0.1")
SIX, SEVEN = ip_address("fd00::a"), ip_address("fd00::1")


def of_ip(packet: bytes, kind: str = "0800", tags: str = "") -> bytes:
    return GW_MAC + DB_MAC + bytes.fromhex(tags + kind) + packet


def ipv4(protocol: int, body: bytes, *, fragment: int = 0, length: int | None = None) -> bytes:
    size = (20 + len(body) if length is None else length).to_bytes(2, "big")
    head = b"\x45\0" + size + b"\0\0" + fragment.to_bytes(2, "big") + bytes([64, protocol, 0, 0])
    return head + ONE.packed + TWO.packed + body


def ipv6(following: int, body: bytes) -> bytes:
    head = b"\x60\0\0\0" + len(body).to_bytes(2, "big") + bytes([following, 60])
    return head + SIX.packed + SEVEN.packed + body


TCP = bytes.fromhex("01bb 1f90 00000001 00000000 6012 0400 0000 0000 02040200") + b"data"
UDP = bytes.fromhex("0035 1f90 000c 0000") + b"data"


def test_tcp_segment_is_taken_apart() -> None:
    packet = dissect(of_ip(ipv4(6, TCP)) + b"padding")
    assert (packet.version, packet.protocol, packet.hops_left) == (4, "tcp", 64)
    assert (packet.source_address, packet.destination_address) == (ONE, TWO)
    assert (packet.source_port, packet.destination_port) == (443, 8080)
    assert (packet.flags, packet.payload) == ("SA", b"data")
    assert (packet.source_mac, packet.destination_mac) == (DB_MAC.hex(":"), GW_MAC.hex(":"))
    assert packet.raw.endswith(b"padding")


def test_ipv6_extension_headers_are_skipped() -> None:
    hop_by_hop = bytes([60, 0]) + bytes(6)
    options = bytes([44, 1]) + bytes(14)
    first_fragment = bytes([51, 0, 0, 1]) + bytes(4)
    authentication = bytes([17, 4]) + bytes(22)
    body = hop_by_hop + options + first_fragment + authentication + UDP
    packet = dissect(of_ip(ipv6(0, body), "86dd"))
    assert (packet.version, packet.protocol, packet.payload) == (6, "udp", b"data")
    assert (packet.source_port, packet.destination_port) == (53, 8080)
    assert (packet.source_address, packet.hops_left) == (SIX, 60)


def test_later_fragment_has_no_ports() -> None:
    packet = dissect(of_ip(ipv4(17, UDP, fragment=185)))
    assert (packet.protocol, packet.source_port, packet.payload) == ("udp", None, UDP)
    later = bytes([17, 0, 0, 8]) + bytes(4)
    packet = dissect(of_ip(ipv6(44, later + UDP), "86dd"))
    assert (packet.protocol, packet.source_port, packet.payload) == ("udp", None, UDP)


def test_segments_that_the_kernel_has_not_split_yet_are_whole() -> None:
    packet = dissect(of_ip(ipv4(6, TCP + bytes(70_000), length=0)))
    assert len(packet.payload) == 70_004


def test_tags_are_taken_off() -> None:
    packet = dissect(of_ip(ipv4(17, UDP), "0800", tags="88a8 0064 8100 2fff"))
    assert (packet.vlan, packet.ethertype, packet.protocol) == (100, 0x0800, "udp")


def test_icmp_of_both_versions_has_its_type() -> None:
    packet = dissect(of_ip(ipv4(1, bytes.fromhex("0301 0000 00000000") + b"why")))
    assert (packet.protocol, packet.icmp_type, packet.icmp_code) == ("icmp", 3, 1)
    assert packet.payload == b"why"
    packet = dissect(of_ip(ipv6(58, bytes.fromhex("8700 0000 00000000")), "86dd"))
    assert (packet.protocol, packet.icmp_type, packet.icmp_code) == ("icmp6", 135, 0)


@pytest.mark.parametrize(
    ("kind", "protocol"),
    [("88cc", "lldp"), ("0026", "llc"), ("88b5", "0x88b5"), ("0800", "ip"), ("0806", "arp")],
)
def test_frames_of_other_protocols_are_named(kind: str, protocol: str) -> None:
    packet = dissect(of_ip(b"", kind))
    assert (packet.protocol, packet.version, packet.arp) == (protocol, None, None)


def test_protocols_without_a_name_are_numbers() -> None:
    assert dissect(of_ip(ipv4(253, b"x"))).protocol == "253"
    assert dissect(of_ip(ipv4(89, b"x"))).protocol == "ospf"


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_garbage_never_raises(raw: bytes) -> None:
    packet = dissect(raw)
    assert packet.raw == raw
    assert str(packet)


@given(
    kind=st.sampled_from(["0800", "0806", "86dd", "8100", "88a8"]),
    whole=st.sampled_from([ipv4(6, TCP), ipv6(0, bytes(8) + UDP), probes.arp(b"", WEB_MAC, TWO)]),  # type: ignore[arg-type]
    cut=st.integers(0, 90),
    wrong=st.lists(st.tuples(st.integers(0, 90), st.integers(0, 255)), max_size=4),
)
@settings(max_examples=300)
def test_damaged_packets_never_raise(
    kind: str, whole: bytes, cut: int, wrong: list[tuple[int, int]]
) -> None:
    damaged = bytearray(whole[:cut])
    for at, value in wrong:
        if at < len(damaged):
            damaged[at] = value
    assert str(dissect(of_ip(bytes(damaged), kind)))


# whose they are


class Office(Layout):
    lan = Network("10.0.0.0/24")
    dmz = Network("192.0.2.0/24")
    gw = Machine(
        links={
            "lan0": lan.at(".1", mac=GW_MAC.hex(":")),
            "dmz0": dmz.at(".1", mac="02:00:00:00:00:02"),
        }
    )
    db = Machine(links={"eth0": lan.at(".10", mac=DB_MAC.hex(":"))})
    web = Machine(links={"eth0": dmz.at(".20", mac=WEB_MAC.hex(":"))})


class Sites(Layout):
    """Two sites with the same addresses."""

    east = Network("10.0.0.0/24")
    west = Network("10.0.0.0/24")
    db1 = Machine(links={"eth0": east.at(".10", mac=DB_MAC.hex(":"))})
    db2 = Machine(links={"eth0": west.at(".10", mac=WEB_MAC.hex(":"))})


def seen(layout: type[Layout], raw: bytes, network: str = "lan") -> Packet:
    return dissect(raw, network=network, owners=Owners(make_plan(layout)))


def test_machines_are_those_of_the_packet_and_of_the_frame() -> None:
    web = ip_address("192.0.2.20")
    raw = GW_MAC + DB_MAC + probes.frame(b"x", DB_MAC, ONE, web, 80)[12:]
    packet = seen(Office, raw)
    assert (packet.source, packet.destination) == ("db", "web")
    assert (packet.sender, packet.receiver) == ("db", "gw")


def test_address_from_outside_is_nobodys_although_the_router_sends_it() -> None:
    raw = DB_MAC + GW_MAC + probes.frame(b"x", GW_MAC, ip_address("198.51.100.1"), ONE, 80)[12:]
    packet = seen(Office, raw)
    assert (packet.source, packet.sender, packet.destination) == (None, "gw", "db")


@pytest.mark.parametrize("address", ["10.0.0.99", "0.0.0.0", "169.254.3.4"])
def test_address_that_nobody_planned_is_its_senders_own(address: str) -> None:
    packet = seen(Office, probes.frame(b"x", DB_MAC, ip_address(address), TWO, 67))
    assert (packet.source, packet.receiver) == ("db", None)


def test_same_address_on_two_networks_is_that_of_the_network() -> None:
    for network, machine in (("east", "db1"), ("west", "db2")):
        packet = seen(Sites, probes.frame(b"x", WEB_MAC, ONE, TWO, 80), network)
        assert packet.source == machine


def test_same_address_twice_is_named_as_both_and_told_apart_by_a_remark() -> None:
    owners = Owners(make_plan(Sites))
    assert owners.names()[ONE] == "db1_or_db2"
    packet = dissect(probes.frame(b"x", DB_MAC, ONE, TWO, 80), network="east", owners=owners)
    assert owners.remark(packet) == "db1 > ?, on its way from db1 to all"


def test_packet_in_one_line() -> None:
    raw = GW_MAC + DB_MAC + probes.frame(b"12345", DB_MAC, ONE, TWO, 80)[12:]
    packet = dissect(
        raw, time_ns=1_700_000_000_123_456_789, network="lan", owners=Owners(make_plan(Office))
    )
    clock = datetime.fromtimestamp(1_700_000_000).strftime("%H:%M:%S")
    assert str(packet) == (f"{clock}.123456 lan: db 10.0.0.10:33434 > gw 10.0.0.1:80 udp, 5 bytes")
    assert packet.time_s == pytest.approx(1_700_000_000.123456)


# files

ADDRESSES = st.one_of(
    st.integers(0, 2**32 - 1).map(IPv4Address),
    st.integers(0, 2**128 - 1).map(IPv6Address),
    st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":")),
)
NAMES = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=20)


@given(
    networks=st.lists(NAMES, min_size=1, max_size=3),
    names=st.dictionaries(ADDRESSES, NAMES, max_size=5),
    packets=st.lists(
        st.tuples(
            st.integers(0, 2**63), st.binary(max_size=80), st.integers(0, 99), NAMES | st.just("")
        ),
        max_size=5,
    ),
)
def test_file_has_what_was_written(
    networks: list[str],
    names: dict[IPv4Address | IPv6Address | str, str],
    packets: list[tuple[int, bytes, int, str]],
) -> None:
    frames = [
        pcapng.Frame(time_ns, more % len(networks), data, len(data) + more, comment)
        for time_ns, data, more, comment in packets
    ]
    file = io.BytesIO()
    assert pcapng.write(file, frames, networks=networks, names=names) == len(frames)
    file.seek(0)
    capture = pcapng.read(file)
    assert capture == pcapng.Capture(networks=networks, names=names, frames=frames)
    # cut off anywhere: what is whole is there
    whole = file.getvalue()
    cut = pcapng.read(io.BytesIO(whole[:-1]))
    assert list(cut.frames) == frames[:-1]


@given(st.binary(max_size=60))
def test_what_is_no_capture_is_refused_or_empty(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"pcapng|empty"):
        pcapng.read(io.BytesIO(data))


@pytest.mark.parametrize("program", ["tshark", "tcpdump"])
def test_other_programs_read_the_file(program: str, tmp_path: Path) -> None:
    found = shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if found is None:
        pytest.skip(f"no {program}; try: apt-get install {program}")
    raw = GW_MAC + DB_MAC + probes.frame(b"12345", DB_MAC, ONE, TWO, 80)[12:]
    path = tmp_path / "it.pcapng"
    with path.open("wb") as file:
        frame = pcapng.Frame(1_700_000_000_123_456_789, 0, raw, len(raw), "a remark")
        pcapng.write(file, [frame], networks=["lan"], names={ONE: "db", TWO: "gw"})
    if program == "tcpdump":
        # tcpdump follows no names of a file
        argv = [found, "-n", "-tt", "--nano", "-r", str(path)]
        expected = "1700000000.123456789 IP 10.0.0.10.33434 > 10.0.0.1.80: UDP, length 5"
    else:
        fields = ["frame.time_epoch", "frame.interface_name", "ip.src_host", "ip.dst_host"]
        argv = [found, "-N", "n", "-r", str(path), "-T", "fields"]
        argv += [f"-e{field}" for field in [*fields, "frame.comment"]]
        expected = "1700000000.123456789\tlan\tdb\tgw\ta remark"
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected
