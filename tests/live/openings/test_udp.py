"""Datagrams between a test and a machine: ``connect(..., protocol="udp")``."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from pytest_carthage import Layout, Machine, Network

pytestmark = pytest.mark.real

#: where the service listens
PORT = 5353


class Lab(Layout):
    """Two machines with both families of addresses."""

    lan = Network("10.0.0.0/24")
    six = Network("fd00:7::/64")
    names = Machine(links={"eth0": lan.at(".1"), "eth1": six.at("::1")})
    client = Machine(links={"eth0": lan.at(".2"), "eth1": six.at("::2")})


lab = Lab.fixture()


@pytest.fixture
def service(lab: Lab) -> Iterator[socket.socket]:
    """A datagram service in a machine."""
    with lab.names.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.bind(("::", PORT))
        yield sock


@pytest.mark.parametrize("host", ["names", "10.0.0.1", "fd00:7::1"])
def test_datagrams_go_there_and_back(lab: Lab, service: socket.socket, host: str) -> None:
    # docs: udp
    with lab.client.connect(5353, host, protocol="udp") as sock:
        sock.settimeout(5)
        sock.send(b"question")
        # docs: end
        assert sock.type == socket.SOCK_DGRAM
        data, peer = service.recvfrom(100)
        assert data == b"question"
        assert peer[0].rpartition(":")[2] in ("10.0.0.2", "2")
        service.sendto(b"answer", peer)
        assert sock.recv(100) == b"answer"


def test_machine_itself_is_the_default(lab: Lab, service: socket.socket) -> None:
    with lab.names.connect(PORT, protocol="udp") as sock:
        sock.send(b"x")
        assert service.recvfrom(9)[1][0].endswith("127.0.0.1")


def test_nobody_there_is_told_as_for_any_datagram_socket(lab: Lab) -> None:
    with lab.client.connect(9, "names", protocol="udp") as sock:
        sock.settimeout(5)
        sock.send(b"x")
        with pytest.raises(ConnectionRefusedError):
            sock.recv(1)


def test_no_route_is_told_at_once(lab: Lab) -> None:
    expected = r"machine 'client'.*198\.51\.100\.1:9: Network is unreachable"
    with pytest.raises(OSError, match=expected):
        lab.client.connect(9, "198.51.100.1", protocol="udp")


def test_another_protocol_is_refused(lab: Lab) -> None:
    expected = r"^machine 'client' of layout 'Lab': protocol 'sctp'; try: 'tcp' or 'udp'$"
    with pytest.raises(ValueError, match=expected):
        lab.client.connect(9, protocol="sctp")  # type: ignore[arg-type]


def test_async_form_is_the_same(lab: Lab, service: socket.socket) -> None:
    async def go() -> None:
        with await lab.client.aio.connect(PORT, "names", protocol="udp") as sock:
            sock.send(b"async")

    asyncio.run(go())
    assert service.recv(9) == b"async"


def test_socket_of_the_fabric_is_bound_listens_and_connects(lab: Lab) -> None:
    """The operation below gates: a socket that is ready when it arrives."""
    aio = lab.names.aio
    fabric = aio.surroundings.fabric

    async def ask(**fields: Any) -> socket.socket:
        _, fds = await fabric.request("socket", **fields)
        return socket.socket(fileno=fds[0])

    def ready(**fields: Any) -> socket.socket:
        return aio.portal.call(lambda: ask(**fields))

    with ready(machine="names", bind=["127.86.0.9", 443], listen=5) as listener:
        with ready(machine="names", connect=["127.86.0.9", 443]) as sock:
            listener.settimeout(5)
            accepted, peer = listener.accept()
            with accepted:
                assert peer == sock.getsockname()
                assert sock.gettimeout() is None
        with ready(machine="client", connect=["127.86.0.9", 443]) as sock:
            with pytest.raises(ConnectionRefusedError):
                sock.send(b"x")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("port", [0, 65536, "http", None])
def test_port_that_is_none_is_refused(lab: Lab, protocol: Any, port: Any) -> None:
    message = f"machine 'client' of layout 'Lab': port {port!r} is no number from 1 to 65535"
    with pytest.raises(ValueError, match=message):
        lab.client.connect(port, protocol=protocol)
