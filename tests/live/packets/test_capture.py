"""Captures of real networks and links."""

from __future__ import annotations

import asyncio
import io
import shutil
import socket
import subprocess
from ipaddress import ip_address
from pathlib import Path

import pytest

from pytest_carthage import Layout, Machine, Network
from pytest_carthage.errors import HostError, TimeLimitError
from pytest_carthage.live.packets import pcapng, taps
from pytest_carthage.live.packets.packets import Packet
from pytest_carthage.live.packets.taps import open_socket
from tests.live.conftest import Build

pytestmark = pytest.mark.real


class Office(Layout):
    """Two networks and the router between them."""

    lan = Network("10.0.0.0/24")
    dmz = Network("192.0.2.0/24")
    gw = Machine(links={"lan0": lan.at(".1"), "dmz0": dmz.at(".1")}, forward=True)
    db = Machine(links={"eth0": lan.at(".10", gateway=".1")})
    web = Machine(links={"eth0": dmz.at(".20", gateway=".1")})


@pytest.fixture
def office(build: Build) -> Office:
    return build(Office)


def say(layout: Layout, machine: str, text: str, to: str, port: int = 9999) -> None:
    """Send one UDP packet."""
    code = f"import socket; s = socket.socket(2, 2); s.sendto({text.encode()!r}, ({to!r}, {port}))"
    layout[machine].run(["python3", "-c", code])


def test_capture_of_a_network_has_each_frame_once_with_its_machines(office: Office) -> None:
    with office.capture("lan", "udp or icmp") as seen:
        assert len(seen) == 0
        office.db.ping("192.0.2.20")
        echoes = [packet for packet in seen if packet.protocol == "icmp"]
        say(office, "db", "hello", "192.0.2.20")
        hello = seen.wait_for(lambda packet: packet.payload == b"hello")
    assert [packet.icmp_type for packet in echoes] == [8, 0]
    assert (hello.source, hello.destination) == ("db", "web")
    assert (hello.sender, hello.receiver) == ("db", "gw")
    assert (hello.source_address, hello.destination_address) == (
        ip_address("10.0.0.10"),
        ip_address("192.0.2.20"),
    )
    assert (hello.protocol, hello.destination_port, hello.hops_left) == ("udp", 9999, 64)
    assert hello.network == "lan"
    assert "lan: db 10.0.0.10:" in str(hello)
    assert str(hello).endswith(" > web 192.0.2.20:9999 udp, 5 bytes")
    assert sum(packet.payload == b"hello" for packet in seen) == 1
    assert seen.lost == 0


def test_capture_holds_what_was_sent_when_the_block_is_left(office: Office) -> None:
    for number in range(20):
        with office.capture("lan", "udp") as seen:
            say(office, "db", str(number), "10.0.0.1")
        assert [packet.payload for packet in seen] == [str(number).encode()]


def test_capture_takes_what_came_in_its_last_moment(build: Build) -> None:
    environment = build(Office).aio

    async def go() -> list[bytes]:
        door = await open_socket(environment.fabric, "db", socket.AF_INET, socket.SOCK_DGRAM)
        await environment["db"].ping("10.0.0.1")
        with door:
            async with environment.capture("lan", "udp") as seen:
                # no turn of the event loop between the two
                door.sendto(b"last", ("10.0.0.1", 9))
        return [packet.payload for packet in seen]

    assert environment.portal.call(go) == [b"last"]


def test_capture_after_the_block_stays_as_it_is(office: Office) -> None:
    with office.capture("lan", "udp") as seen:
        say(office, "db", "within", "10.0.0.1")
    say(office, "db", "after", "10.0.0.1")
    assert [packet.payload for packet in seen.packets] == [b"within"]


def test_capture_of_a_link_has_both_directions_and_nobody_elses(office: Office) -> None:
    link = office.web.links["eth0"]
    with link.capture("udp") as seen:
        say(office, "db", "to web", "192.0.2.20")
        say(office, "web", "to gw", "192.0.2.1")
        say(office, "db", "to gw", "10.0.0.1")
        seen.wait_for(2)
    assert [packet.payload for packet in seen] == [b"to web", b"to gw"]


def test_capture_tells_arp_and_who_asked(office: Office) -> None:
    with office.capture("lan", "arp") as seen:
        say(office, "db", "whoever you are", "10.0.0.1")
        asked = seen.wait_for(lambda packet: packet.arp is not None and packet.arp.operation == 1)
    assert asked.arp is not None
    assert (asked.source, asked.destination) == ("db", None)
    assert str(asked.arp.target) == "10.0.0.1"
    assert str(asked).endswith("lan: db arp who has 10.0.0.1")


def test_wait_for_what_does_not_come_tells_what_was_seen(office: Office) -> None:
    with office.capture("lan", "udp") as seen:
        expected = (
            r"capture on network 'lan' of layout 'Office': no 2 packets after 0\.2\d* s; "
            r"seen: 1 packets:\n  .* lan: db 10\.0\.0\.10:\d+ > gw 10\.0\.0\.1:9999 udp, 4 bytes"
        )
        say(office, "db", "once", "10.0.0.1")
        with pytest.raises(TimeLimitError, match=expected):
            seen.wait_for(2, timeout_s=0.2)
        with pytest.raises(TimeLimitError, match="no packet as wanted after 0"):
            seen.wait_for(lambda packet: packet.payload == b"never", timeout_s=0.05)


def test_function_of_wait_for_that_fails_is_told_what_it_was_given(office: Office) -> None:
    with office.capture("lan") as seen:
        office.web.ping("db")
        with pytest.raises(ZeroDivisionError) as caught:
            seen.wait_for(lambda packet: 1 / 0)
    (note,) = caught.value.__notes__
    assert note.startswith("capture ")
    assert ": raised by the function of wait_for, given: " in note


def test_wait_for_hears_of_packets_that_somebody_else_has_taken_in(build: Build) -> None:
    environment = build(Office).aio

    async def go() -> Packet:
        door = await open_socket(environment.fabric, "db", socket.AF_INET, socket.SOCK_DGRAM)
        await environment["db"].ping("10.0.0.1")
        with door:
            async with environment.capture("lan", "udp") as seen:
                waiting = asyncio.create_task(seen.wait_for(lambda packet: True))
                for _ in range(5):
                    await asyncio.sleep(0)
                door.sendto(b"now", ("10.0.0.1", 9))
                assert len(seen) == 1  # taken in before the event loop hears of it
                return await asyncio.wait_for(waiting, 5)

    assert environment.portal.call(go).source == "db"


def test_capture_in_async_code_of_another_event_loop(office: Office) -> None:
    async def go() -> Packet:
        async with office.aio.capture("lan", "udp") as seen:
            await office.aio["db"].run(
                "python3 -c 'import socket; "
                's=socket.socket(2, 2); s.sendto(b"now", ("10.0.0.1", 1))\''
            )
            return await seen.wait_for(lambda packet: packet.payload == b"now")

    assert asyncio.run(go()).source == "db"


def test_capture_survives_that_its_link_goes_down(office: Office) -> None:
    with office.web.links["eth0"].capture("udp") as seen:
        say(office, "web", "before", "192.0.2.1")
        with office.web.links["eth0"].down():
            office.web.run("ip link show eth0")
        say(office, "web", "after", "192.0.2.1")
        seen.wait_for(lambda packet: packet.payload == b"after")
    assert [packet.payload for packet in seen] == [b"before", b"after"]


def test_capture_with_a_wrong_filter_tells_it_in_tcpdumps_words(office: Office) -> None:
    expected = (
        r"capture on network 'lan' of layout 'Office': filter 'tcp prt 80': "
        r"can't parse filter expression: syntax error; try: man pcap-filter"
    )
    with pytest.raises(ValueError, match=expected), office.capture("lan", "tcp prt 80"):
        pass
    # no option of tcpdump's
    with pytest.raises(ValueError, match="syntax error"), office.capture("lan", "-w /tmp/x"):
        pass


def test_capture_of_no_network_tells_which_there_are(office: Office) -> None:
    expected = "layout 'Office' has no network 'wan'; there are: lan, dmz"
    with pytest.raises(LookupError, match=expected), office.capture("wan"):
        pass


def test_capture_with_a_filter_without_tcpdump_names_the_package(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taps, "_PATH", "/nowhere")
    with office.capture("lan"):  # nothing is needed for that
        pass
    expected = r"no tcpdump.*apt-get install tcpdump"
    with pytest.raises(HostError, match=expected) as caught, office.capture("lan", "udp"):
        pass
    assert caught.value.problems[0].packages == ("tcpdump",)


def test_capture_outside_of_its_block_tells_how(office: Office) -> None:
    with pytest.raises(RuntimeError, match=r"with layout\.capture\(\.\.\.\) as seen"):
        len(office.capture("lan"))


def test_save_makes_a_file_in_which_wireshark_names_machines(
    office: Office, tmp_path: Path
) -> None:
    with office.capture("lan", "udp") as seen:
        say(office, "db", "hello", "192.0.2.20")
    path = seen.save(tmp_path / "lan.pcapng")
    (frame,) = pcapng.read(io.BytesIO(path.read_bytes())).frames
    assert frame.data == seen[0].raw
    assert frame.time_ns == seen[0].time_ns
    tshark = shutil.which("tshark")
    if tshark is None:
        pytest.skip("no tshark; try: apt-get install tshark")
    fields = ["ip.src_host", "ip.dst_host", "frame.interface_name"]
    printed = subprocess.run(
        [tshark, "-N", "n", "-r", path, "-T", "fields", *(f"-e{field}" for field in fields)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed.split() == ["db", "web", "lan"]


def test_capture_sees_vlan_tags_and_filters_them(office: Office) -> None:
    code = (
        "import socket; s = socket.socket(17, 3, 0); s.bind(('eth0', 0)); "
        "s.send(b'\\xff' * 6 + b'\\x02' * 6 + bytes.fromhex('8100 0fa5 88b5') + b'tagged' * 9)"
    )
    with office.capture("lan", "vlan 4005") as seen:
        office.db.run(["python3", "-c", code])
    (packet,) = seen
    assert (packet.vlan, packet.ethertype, packet.payload[:6]) == (4005, 0x88B5, b"tagged")


def test_capture_names_machines_also_where_addresses_do_not_tell(
    office: Office, tmp_path: Path
) -> None:
    with office.capture("lan", "arp") as seen:
        say(office, "db", "whoever you are", "10.0.0.1")
        seen.wait_for(2)
    frames = pcapng.read(io.BytesIO(seen.save(tmp_path / "arp.pcapng").read_bytes())).frames
    assert [frame.comment for frame in frames[:2]] == ["db > all", "gw > db"]


def test_capture_leaves_no_descriptor_open(office: Office) -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    with office.capture("lan", "udp"):  # the first one imports
        pass
    before = count()
    for _ in range(3):
        with office.capture("lan", "udp"), office.db.links["eth0"].capture():
            assert count() > before
        with pytest.raises(ValueError, match="syntax error"), office.capture("lan", "udp udp"):
            pass
    assert count() == before
