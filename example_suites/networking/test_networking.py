"""What a network engineer wants to know before the change window."""

import os
import threading
import time
from http.server import HTTPServer, SimpleHTTPRequestHandler
from urllib.request import urlopen

import pytest

from pytest_carthage import command

pytestmark = pytest.mark.usefixtures("converged")

FAR = "203.0.113.2"  # the public address of the east site


def look_up(machine, name):
    """What the machine's DNS server says to a name or an address: the first word, or the name."""
    found = machine.run(["getent", "-s", "dns", "hosts", name], check=False)
    return found.stdout.split()


def fetch(machine, host, path, port=80):
    """What the machine gets from a web server: the client is here, its connection starts there."""
    with machine.forward(port, host) as local, urlopen(f"http://127.0.0.1:{local}{path}") as page:
        return page.read()


# Addresses, names and ways.


def test_machines_got_their_addresses_from_their_own_site(internet):
    assert internet.west_web.address("west") == "10.0.0.80"  # reserved for it
    for pc in (internet.west_pc, internet.east_pc):
        number = int(pc.address().rpartition(".")[2])
        assert 100 <= number <= 199
        # a name server came with the address
        assert "nameserver 10.0.0.1" in pc.read_text("/etc/resolv.conf")


def test_name_means_another_address_inside_than_outside(internet):
    assert look_up(internet.west_pc, "www.west.example") == ["10.0.0.80", "www.west.example"]
    assert look_up(internet.east_pc, "www.example") == ["198.51.100.2", "www.example"]
    # backwards, too
    assert look_up(internet.west_pc, "10.0.0.80") == ["10.0.0.80", "www.west.example"]
    # there is no such name here, and nobody outside of the layout is asked
    assert look_up(internet.west_pc, "www.debian.org") == []


def test_equal_addresses_do_not_meet(internet):
    assert internet.west_pc.ping("10.0.0.80") < 1
    with pytest.raises(OSError, match=r"10\.0\.0\.80"):  # nobody has it in the east
        internet.east_pc.ping("10.0.0.80", timeout_s=0.5)


def test_site_is_reached_by_its_public_name(internet):
    internet.west_web.write_text("/srv/hello", "Hello, east!\n")
    assert fetch(internet.east_pc, "www.example", "/hello") == b"Hello, east!\n"


# Packets.


def test_private_addresses_stay_at_home(internet):
    with (
        internet.west_pc.link("west").capture("icmp") as inside,
        internet.capture("west_line", "icmp") as outside,
    ):
        internet.west_pc.ping(FAR)
        outside.wait_for(2)
    assert {str(packet.source_address) for packet in inside} == {internet.west_pc.address(), FAR}
    assert {str(packet.source_address) for packet in outside} == {"198.51.100.2", FAR}


# Faults. Each heals when its block ends, also when the test fails. Where a kernel cannot do one,
# the mark has the test skipped, with the reason, before anything is built.


def test_copper_takes_over_when_the_fibre_breaks(internet):
    ends = {internet.core_w: FAR, internet.core_e: "198.51.100.2"}
    for core, site in ends.items():
        core.wait_for(command(f"ip route get {site} | grep 'dev fibre0'"))
    with internet.core_w.link("fibre0").down():
        for core, site in ends.items():
            core.wait_for(command(f"ip route get {site} | grep 'dev copper0'"), timeout_s=15)
        assert internet.west_pc.ping(FAR) < 1


def test_sites_live_on_when_they_are_cut_off_and_meet_again(internet):
    west = {internet.core_w, internet.west_gw, internet.west_web, internet.west_pc}
    east = {internet.core_e, internet.east_gw, internet.east_pc, internet.ns}
    with internet.partition(west, east):
        with pytest.raises(OSError, match=FAR):
            internet.west_pc.ping(FAR, timeout_s=0.5)
        assert internet.west_pc.ping("www.west.example") < 1
    internet.core_w.wait_for(command(f"ip route get {FAR}"))
    assert internet.west_pc.ping(FAR) < 1


@pytest.mark.carthage_needs("rate")
def test_slow_line_is_slow(internet):
    internet.west_web.write_text("/srv/big", "x" * 100_000)
    with internet.west_gw.link("wan0").impair(rate_mbit=1):  # 100 kB take it 0.8 s
        begin = time.monotonic()
        assert len(fetch(internet.east_pc, "www.example", "/big")) == 100_000
        assert time.monotonic() - begin > 0.4


# Other fabrics, and the world.


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can join two live layouts")
def test_network_goes_on_in_another_data_centre(internet, annex):
    with pytest.raises(OSError, match=r"172\.16\.0\.2"):
        internet.west_web.ping("172.16.0.2", timeout_s=0.5)
    with internet.span(annex, "stretch"):
        assert internet.west_web.ping("172.16.0.2") < 1
        assert annex.backup.ping("172.16.0.1") < 1


class Update(SimpleHTTPRequestHandler):
    """What only the real world has."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"update 42")


def test_gate_is_the_only_way_out(internet):
    with HTTPServer(("127.0.0.1", 0), Update) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with internet.gate(internet.west_pc, to=f"127.0.0.1:{server.server_port}") as gate:
            assert fetch(internet.west_pc, gate.address, "/", gate.port) == b"update 42"
        assert [one.error for one in gate.record.connections] == [None]
        server.shutdown()


def test_nothing_leaves_and_nothing_enters(internet):
    internet.assert_sealed()
