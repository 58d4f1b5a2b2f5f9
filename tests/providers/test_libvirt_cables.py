"""What a machine of another host is told by, and its cable: nothing is started."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pytest_carthage import Image, Layout, Machine, Network, Vm
from pytest_carthage.planning import make_plan
from pytest_carthage.planning.plan import PlannedMachine
from pytest_carthage.provider import Identity
from pytest_carthage.providers.libvirt.domain import Booting, Hardware, Places
from pytest_carthage.providers.libvirt.host import Acceleration
from pytest_carthage.providers.libvirt.remote.cable import carry
from pytest_carthage.providers.libvirt.remote.domain import cable_ports, remote_xml
from pytest_carthage.providers.libvirt.remote.provider import check
from pytest_carthage.providers.libvirt.remote.uri import LibvirtUri

LAN = Network("10.0.0.0/24", mtu=1400)
URI = "qemu+ssh://root@big.lab/system"


def planned(vm: Vm) -> PlannedMachine:
    machine = Machine(Image.debian("bookworm"), on=vm, links={"eth0": LAN.at(".10")})
    return make_plan(Layout.of("Shop", {"lan": LAN, "db": machine})).machines["db"]


def domain(vm: Vm) -> str:
    machine = planned(vm)
    folder = Path("/env/vm/db")
    return remote_xml(
        machine,
        vm,
        identity=Identity(kind="libvirt", run="4711", environment="shop", name="db"),
        places=Places(folder=folder, short="/run/vm/db", log=Path("/env/db.log")),
        booting=Booting(kernel=Path("/k"), initrd=Path("/i"), append="root=/dev/vda"),
        hardware=Hardware(
            acceleration=Acceleration(kind="qemu", why="for the test"), emulator="/usr/bin/qemu"
        ),
        name="carthage-shop-db",
        files={
            "/k": "/pool/k",
            "/i": "/pool/i",
            f"{folder}/disk.qcow2": "/pool/disk",
            f"{folder}/seed.img": "/pool/seed",
        },
        ports={machine.links[0].port: 20001},
    )


def test_domain_elsewhere_has_volumes_there_and_no_file_of_here() -> None:
    text = domain(Vm(uri=URI, graphics=True))
    root = ElementTree.fromstring(text)
    files = [each.get("file") for each in root.iterfind("devices/disk/source")]
    assert files == ["/pool/disk", "/pool/seed"]
    assert (root.findtext("os/kernel"), root.findtext("os/initrd")) == ("/pool/k", "/pool/i")
    assert root.findtext("name") == "carthage-shop-db"
    assert "/env" not in text
    assert "/run/vm" not in text
    assert [each.get("type") for each in root.iterfind("devices/graphics/listen")] == ["none"]


def test_cable_of_a_domain_elsewhere_ends_at_a_loopback_port_there() -> None:
    vm = Vm(uri=URI)
    text = domain(vm)
    (interface,) = ElementTree.fromstring(text).findall("devices/interface")
    source = interface.find("source")
    assert interface.get("type") == "server"
    assert source is not None
    assert source.attrib == {"address": "127.0.0.1", "port": "20001"}
    assert cable_ports(planned(vm), text) == {planned(vm).links[0].port: 20001}


def test_own_xml_of_a_domain_elsewhere_is_left_as_it_is() -> None:
    own = "<devices><disk type='file'><source file='/theirs'/></disk></devices>"
    root = ElementTree.fromstring(domain(Vm(uri=URI, xml=own)))
    assert "/theirs" in [each.get("file") for each in root.iterfind("devices/disk/source")]


# its cable


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket, threading.Thread]]:
    """The fabric's side of a tap, QEMU's of a stream, and who carries between them."""
    fabric, tap = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    qemu, ours = socket.socketpair()
    tap.setblocking(False)
    for sock in (fabric, qemu):
        sock.settimeout(10)
    fabric.send(b"of before")

    def go() -> None:
        with ours:
            carry(tap.fileno(), ours)

    thread = threading.Thread(target=go, daemon=True)
    thread.start()
    with fabric, qemu:
        qemu.sendall(framed(b"first"))
        assert fabric.recv(100) == b"first"  # it has begun
        yield fabric, qemu, thread
    thread.join(10)
    tap.close()
    assert not thread.is_alive()


def framed(*frames: bytes) -> bytes:
    return b"".join(struct.pack("!I", len(frame)) + frame for frame in frames)


def exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += sock.recv(count - len(data))
    return data


def test_frames_go_both_ways_whole_however_the_stream_cuts_them(
    ends: tuple[socket.socket, socket.socket, threading.Thread],
) -> None:
    fabric, qemu, _ = ends
    frames = [os.urandom(size) for size in (60, 1514, 9000)]
    for frame in frames:
        fabric.send(frame)
    stream = framed(*frames)
    assert exactly(qemu, len(stream)) == stream, "without the one that came before"
    for at in range(0, len(stream), 700):
        qemu.sendall(stream[at : at + 700])
    assert [fabric.recv(10_000) for _ in frames] == frames


def test_network_that_floods_a_cable_does_not_stop_it(
    ends: tuple[socket.socket, socket.socket, threading.Thread],
) -> None:
    fabric, qemu, _ = ends
    fabric.setblocking(False)
    sent = 0
    for _ in range(3000):  # QEMU reads nothing meanwhile
        try:
            fabric.send(bytes(1514))
        except BlockingIOError:
            continue
        sent += 1
    assert exactly(qemu, sent * 1518) == framed(bytes(1514)) * sent
    qemu.sendall(framed(b"still"))
    fabric.settimeout(10)
    assert fabric.recv(100) == b"still"


def test_stream_that_is_none_of_qemus_is_refused() -> None:
    fabric, tap = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    qemu, ours = socket.socketpair()
    tap.setblocking(False)
    with fabric, tap, qemu, ours:
        qemu.sendall(b"HTTP/1.1")
        with pytest.raises(ValueError, match="a frame of 1213486160 bytes"):
            carry(tap.fileno(), ours)


# where it is


def test_address_gives_the_command_that_reaches_its_host() -> None:
    address = LibvirtUri.of("qemu+ssh://me@big.lab:2222/system?keyfile=/k&known_hosts=/h&socket=/s")
    assert address.ssh[0] == "ssh"
    reached = ("-i", "/k", "-oUserKnownHostsFile=/h", "-p", "2222", "-l", "me", "big.lab")
    assert address.ssh[-8:] == reached
    assert "-oStrictHostKeyChecking=yes" in address.ssh
    assert address.socket == "/s"
    assert LibvirtUri.of("qemu+unix:///system?socket=/s").ssh == ()


@pytest.mark.parametrize(
    ("uri", "what"),
    [
        ("qemu+tcp://big.lab/system", "no libvirt is reached by qemu.tcp: here"),
        ("xen+ssh://big.lab/system", "no libvirt is reached by xen.ssh: here"),
        ("qemu+ssh://big.lab/session", "needs the libvirt of a whole host, and not /session"),
        ("qemu+ssh:///system", "makes no sense without a host"),
        ("qemu+unix://big.lab/system", "makes no sense with a host"),
        ("qemu+ssh://big.lab/system?no_verify=1", "no_verify= is not known; try: one of command,"),
        ("qemu+ssh://-oProxyCommand=x/system", "is no name of a host"),
    ],
)
def test_address_that_cannot_be_used_is_told_why(uri: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        LibvirtUri.of(uri)


def test_machine_elsewhere_that_cannot_be_is_told_before_anything_is_built() -> None:
    machines = {
        "db": replace(Vm(), uri="qemu+tls://big.lab/system"),
        "web": replace(Vm(), uri=URI, way="ssh"),
    }
    texts = [str(problem) for problem in check(machines) if "machine" in str(problem)]
    assert texts[0].startswith(
        "libvirt: machine 'db': uri='qemu+tls://big.lab/system': no libvirt is reached by qemu+tls:"
    )
    assert "machine 'web' of the libvirt at qemu+ssh://root@big.lab/system is to be re" in texts[1]
