"""``--carthage-pcap``: recordings, and what the bundle of a failed test has of them."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pytest

from pytest_carthage.live.packets import pcapng
from pytest_carthage.live.packets.packets import Packet, dissect
from pytest_carthage.state.listing import destroy_environment
from tests.plugin.conftest import Suite

pytestmark = pytest.mark.real

CONFTEST = """
from pytest_carthage import Layout, Machine, Network, log


class Wide(Layout):
    lan = Network("10.0.0.0/24")
    wan = Network("192.0.2.0/24")
    gw = Machine(links={"lan0": lan.at(".1"), "wan0": wan.at(".1")}, forward=True)
    # until somebody refuses it: then it was on the network
    db = Machine(links={"eth0": lan.at(".2", gateway=".1")}, wait_for=[log("sent")], command=[
        "python3", "-u", "-c", '''
import socket, time
s = socket.socket(2, 2)
s.connect(("10.0.0.1", 9))
s.settimeout(0.2)
while True:
    try:
        s.send(b"first")
        s.recv(100)
    except ConnectionRefusedError:
        break
    except TimeoutError:
        pass
print("sent")
time.sleep(1000)
'''])


wide = Wide.fixture()


def say(machine, text, to):
    machine.run(["python3", "-c", f'''
import socket
s = socket.socket(2, 2)
s.sendto({text!r}.encode(), ({to!r}, 9))
'''])
"""

TESTS = """
from conftest import say

def test_first(wide):
    say(wide.db, "of first", "10.0.0.1")
    assert 0

def test_good(wide):
    say(wide.db, "of good", "10.0.0.1")

def test_second(wide):
    say(wide.db, "of second", "192.0.2.1")
    say(wide.gw, "to wan", "192.0.2.77")
    assert 0
"""


@pytest.fixture
def wide(suite: Suite) -> Suite:
    suite.path.joinpath("conftest.py").write_text(CONFTEST)
    suite.write(test_it=TESTS)
    return suite


def payloads(path: Path) -> list[bytes]:
    """What was sent by UDP."""
    return [packet.payload for packet in packets(path) if packet.protocol == "udp"]


def packets(path: Path) -> list[Packet]:
    capture = pcapng.read(io.BytesIO(path.read_bytes()))
    return [
        dissect(frame.data, network=capture.networks[frame.network], time_ns=frame.time_ns)
        for frame in capture.frames
    ]


def test_bundle_has_the_packets_of_its_own_test(wide: Suite) -> None:
    result = wide.run("--carthage-pcap", "--carthage-name=taped")
    result.assert_outcomes(passed=1, failed=2)
    first = wide.bundle("test_it.py.test_first") / "taped-wide/packets.pcapng"
    second = wide.bundle("test_it.py.test_second") / "taped-wide/packets.pcapng"
    # from the first packet of the first machine on, which was there before the test was
    assert payloads(first)[0] == b"first"
    assert payloads(first)[-1] == b"of first"
    assert payloads(second) == [b"of second"]
    known = wide.summary("test_it.py.test_second")["environments"]["taped-wide"]
    assert "packets.pcapng" in known["files"]
    # nobody has 192.0.2.77: the router asked for it
    assert known["packets"]["lan"]["packets"] >= 1
    assert known["packets"]["wan"]["packets"] >= 1
    assert "lost" not in known["packets"]["lan"]
    asked = [str(packet.arp.target) for packet in packets(second) if packet.arp is not None]
    assert "192.0.2.77" in asked


def test_bundle_opens_in_wireshark_with_machines_named(wide: Suite) -> None:
    tshark = shutil.which("tshark")
    if tshark is None:
        pytest.skip("no tshark; try: apt-get install tshark")
    wide.run("--carthage-pcap=all", "--carthage-name=shown")
    path = wide.bundle("test_it.py.test_first") / "shown-wide/packets.pcapng"
    fields = ["frame.interface_name", "ip.src_host", "ip.dst_host"]
    printed = subprocess.run(
        [
            tshark,
            "-N",
            "n",
            "-r",
            path,
            "-Y",
            "udp and not icmp",
            "-T",
            "fields",
            *(f"-e{f}" for f in fields),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert set(printed.splitlines()) == {"lan\tdb\tgw"}


def test_named_networks_alone_are_recorded(wide: Suite) -> None:
    wide.run("--carthage-pcap=wan", "--carthage-name=named")
    path = wide.bundle("test_it.py.test_second") / "named-wide/packets.pcapng"
    assert pcapng.read(io.BytesIO(path.read_bytes())).networks == ["wan"]
    known = wide.summary("test_it.py.test_second")["environments"]["named-wide"]
    assert list(known["packets"]) == ["wan"]


def test_ini_value_stands_in_for_the_option(wide: Suite) -> None:
    wide.pytester.makeini("[pytest]\ncarthage_pcap = lan, wan\n")
    wide.run("--carthage-name=ini", "-k", "first")
    path = wide.bundle("test_it.py.test_first") / "ini-wide/packets.pcapng"
    assert pcapng.read(io.BytesIO(path.read_bytes())).networks == ["lan", "wan"]


def test_without_the_option_nothing_is_recorded_or_imported(wide: Suite) -> None:
    wide.write(
        test_it="""
        import sys

        def test_it(wide):
            loaded = [name for name in sys.modules if name.startswith("pytest_carthage.")]
            print("loaded:", *[n for n in loaded if n.endswith(("recording", "pcap", "capture"))])
            assert 0
        """
    )
    result = wide.run_apart("--carthage-name=off")
    result.stdout.fnmatch_lines(["loaded:"])
    assert "packets" not in wide.summary("test_it.py.test_it")["environments"]["off-wide"]


def test_wrong_network_is_refused_before_anything_is_built(wide: Suite) -> None:
    result = wide.run_apart("--carthage-pcap=lan,vlan", "--carthage-name=wrong")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --carthage-pcap=lan,vlan: no layout has a network 'vlan'; there are: lan, wan; *"]
    )
    assert not (wide.path / "state/runs/wrong").exists()


def test_wrong_network_is_refused_by_workers_too(wide: Suite) -> None:
    result = wide.run_apart("--carthage-pcap=vlan", "-n1", xdist=True)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*no layout has a network 'vlan'; there are: lan, wan; *"])


def test_path_that_was_taken_for_a_network_is_told(wide: Suite) -> None:
    result = wide.run("--carthage-pcap", "test_it.py")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "ERROR: --carthage-pcap test_it.py: that is a path, *; "
            "try: --carthage-pcap=all test_it.py"
        ]
    )


@pytest.mark.parametrize("size", ["0", "-1", "many", "1.5"])
def test_size_that_is_none_is_refused(wide: Suite, size: str) -> None:
    wide.pytester.makeini(f"[pytest]\ncarthage_pcap_mib = {size}\n")
    result = wide.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: carthage_pcap_mib: '{size}' is no number of MiB *"])


def test_full_ring_forgets_the_oldest_and_tells_it(wide: Suite) -> None:
    wide.write(
        test_it="""
        from conftest import say

        def test_much(wide):
            say(wide.db, "begin", "10.0.0.1")
            wide.db.run(["python3", "-c", '''
        import socket
        s = socket.socket(2, 2)
        for number in range(2500):
            s.sendto(b"%06d" % number + bytes(1000), ("10.0.0.1", 9))
        '''])
            say(wide.db, "end", "10.0.0.1")
            assert 0
        """
    )
    wide.pytester.makeini("[pytest]\ncarthage_pcap_mib = 1\n")
    wide.run("--carthage-pcap=lan", "--carthage-name=full")
    folder = wide.bundle("test_it.py.test_much") / "full-wide"
    assert (folder / "packets.pcapng").stat().st_size < 1.2 * 2**20
    seen = payloads(folder / "packets.pcapng")
    assert b"begin" not in seen
    assert seen[-1] == b"end"
    numbers = [int(payload[:6]) for payload in seen[:-1]]
    assert numbers == list(range(numbers[0], 2500))
    known = wide.summary("test_it.py.test_much")["environments"]["full-wide"]
    assert "made room for later ones (all 1 MiB were in use" in known["packets"]["lan"]["lost"]
    assert known["packets"]["lan"]["packets"] == len(packets(folder / "packets.pcapng"))


def test_kept_environment_has_its_recording(wide: Suite) -> None:
    wide.run("--carthage-pcap", "--carthage-name=kept", "--keep", "-k", "good")
    (environment,) = wide.alive
    kept = payloads(environment.folder / "packets.pcapng")
    assert (kept[0], kept[-1]) == (b"first", b"of good")
    destroy_environment(environment.name)
    assert not environment.folder.exists()


def test_layout_that_is_never_ready_leaves_its_packets(wide: Suite) -> None:
    wide.write(
        test_it="""
        from conftest import Wide
        from pytest_carthage import command

        class Never(Wide):
            db = Wide.db.replace(wait_for=[command("sleep 1; false")], ready_timeout_s=1.5)

        never = Never.fixture()

        def test_it(never):
            pass
        """
    )
    wide.run("--carthage-pcap", "--carthage-name=late")
    path = wide.bundle("test_it.py.test_it") / "late-never/packets.pcapng"
    assert payloads(path)[0] == b"first"
