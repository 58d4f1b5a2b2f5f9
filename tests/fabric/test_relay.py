"""The relay's arithmetic: what offloads leave to do is done as the kernel would."""

from __future__ import annotations

import random
import struct

import pytest

from pytest_carthage.fabric import qdisc, relay

HEAD = struct.Struct("=BBHHHH")


def checksum(data: bytes) -> int:
    """RFC 1071, written another way than the relay's."""
    total = 0
    for at in range(0, len(data), 2):
        total += int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big")
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def superframe(payload: bytes, *, version: int, tag: bool = False) -> bytes:
    """TCP as a kernel hands it over: one header, a lot of data, only the pseudo header summed."""
    ether = bytes(12) + (b"\x81\x00\x00\x05" if tag else b"")
    tcp = struct.pack("!HHIIBBHHH", 1000, 2000, 0xFFFFFF00, 7, 8 << 4, 0x19, 100, 0, 0) + bytes(12)
    length = len(tcp) + len(payload)
    if version == 4:
        addresses = bytes([10, 0, 0, 1, 10, 0, 0, 2])
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 65535, 0, 64, 6, 0) + addresses
        ether += b"\x08\x00"
    else:
        addresses = bytes(range(32))
        ip = struct.pack("!IHBB", 6 << 28, length, 6, 64) + addresses
        ether += b"\x86\xdd"
    pseudo = checksum(addresses + struct.pack("!II", length, 6)) ^ 0xFFFF
    tcp = tcp[:16] + struct.pack("!H", pseudo) + tcp[18:]
    start = len(ether) + len(ip)
    head = HEAD.pack(1, 1 if version == 4 else 4, start + len(tcp), 1000, start, 16)
    return head + ether + ip + tcp + payload


@pytest.mark.parametrize("tag", [False, True])
@pytest.mark.parametrize("version", [4, 6])
def test_segments_are_whole_packets_with_right_sums(version: int, tag: bool) -> None:
    payload = random.Random(1).randbytes(2500)
    parts = relay.segments(superframe(payload, version=version, tag=tag))
    got, flags, numbers = b"", [], []
    for part in parts:
        assert HEAD.unpack(part[:10]) == (0, 0, 0, 0, 0, 0)
        packet = part[10 + 14 + 4 * tag :]
        if version == 4:
            assert checksum(packet[:20]) == 0
            assert int.from_bytes(packet[2:4], "big") == len(packet)
            numbers.append(int.from_bytes(packet[4:6], "big"))
            addresses, tcp = packet[12:20], packet[20:]
        else:
            assert int.from_bytes(packet[4:6], "big") == len(packet) - 40
            addresses, tcp = packet[8:40], packet[40:]
        assert checksum(addresses + struct.pack("!II", len(tcp), 6) + tcp) == 0
        assert int.from_bytes(tcp[4:8], "big") == (0xFFFFFF00 + len(got)) & 0xFFFFFFFF
        flags.append(tcp[13])
        got += tcp[32:]
    assert got == payload
    assert flags == [0x10, 0x10, 0x19]
    assert numbers == ([65535, 0, 1] if version == 4 else [])


def test_a_small_packet_gets_the_sum_that_was_left_to_do() -> None:
    whole = relay.segments(superframe(b"odd", version=4))[0]
    start = 10 + 14 + 20
    pseudo = checksum(whole[10 + 14 + 12 : start] + struct.pack("!II", 35, 6)) ^ 0xFFFF
    body = whole[10:start] + whole[start:][:16] + struct.pack("!H", pseudo) + whole[start + 18 :]
    (finished,) = relay.segments(HEAD.pack(1, 0, 0, 0, start - 10, 16) + body)
    assert finished == whole


def test_a_frame_with_nothing_left_to_do_stays_as_it_is() -> None:
    frame = bytes(10) + bytes(range(60))
    assert relay.segments(frame) == [frame]


def test_corrupted_is_one_bit_of_one_packet_behind_its_hardware_addresses() -> None:
    frame = superframe(bytes(2500), version=4)
    right = relay.segments(frame)
    for seed in range(50):
        wrong = relay.corrupted(frame, random.Random(seed))
        turned = [
            (number, at, a ^ b)
            for number, (one, other) in enumerate(zip(right, wrong, strict=True))
            for at, (a, b) in enumerate(zip(one, other, strict=True))
            if a != b
        ]
        assert len(turned) == 1
        (_, at, bits) = turned[0]
        assert at >= 24
        assert bits.bit_count() == 1


def test_corrupted_frame_of_an_unknown_kind_is_lost() -> None:
    head = HEAD.pack(1, 5, 42, 1000, 34, 6)  # UDP segmentation
    assert relay.corrupted(head + bytes(3000), random.Random(1)) == []


def test_queue_before_a_narrow_link_holds_a_fifth_of_a_second() -> None:
    assert qdisc.queue_bytes(80e6) == 2_000_000
    assert qdisc.queue_bytes(1e3) == 65536


def _attributes(data: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at < len(data):
        size, kind = struct.unpack_from("=HH", data, at)
        found[kind] = data[at + 4 : at + size]
        at += size + 3 & ~3
    return found


def test_netem_is_asked_for_as_its_header_says() -> None:
    """``struct tc_netem_qopt`` and TCA_NETEM_*, linux/pkt_sched.h."""
    options = qdisc.netem_options(
        {
            "loss": 0.5,
            "delay_s": 0.02,
            "jitter_s": 0.001,
            "duplicate": 1.0,
            "corrupt": 0.25,
            "rate_bps": 8e6,
        }
    )
    _, limit, loss, gap, duplicate, _ = struct.unpack_from("=IIIIII", options)
    assert (loss, gap, duplicate) == (0x80000000, 0, 0xFFFFFFFF)
    assert limit > 1000
    found = _attributes(options[24:])
    assert struct.unpack("=II", found[4]) == (0x40000000, 0)
    assert struct.unpack("=IiIi", found[6]) == (1_000_000, 0, 0, 0)
    assert struct.unpack("=q", found[10]) == (20_000_000,)
    assert struct.unpack("=q", found[11]) == (1_000_000,)
    assert set(found) == {4, 6, 10, 11}


def test_netem_is_asked_for_as_another_library_does() -> None:
    netem = pytest.importorskip("pyroute2.netlink.rtnl.tcmsg.sched_netem").options
    names = [name for name, _ in netem.nla_map]
    assert (names[4], names[6]) == ("TCA_NETEM_CORRUPT", "TCA_NETEM_RATE")
    fields = [name for name, _ in netem.fields]
    assert fields == ["delay", "limit", "loss", "gap", "duplicate", "jitter"]
