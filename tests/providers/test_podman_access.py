"""Gates out of a container, and blocking code of a test in its network."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pytest_carthage import Layout, Machine, Network
from tests.providers.conftest import DEBIAN, Build

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]


class Hall(Layout):
    """A container."""

    lan = Network("10.0.0.0/24")
    debian = DEBIAN
    web = Machine(debian, links={"eth0": lan.at(".1")}, on="podman")


@contextlib.contextmanager
def export() -> Iterator[int]:
    """A host outside, which answers one question; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            sock, _ = server.accept()
            with sock:
                sock.sendall(b"not " + sock.recv(100))

        thread = threading.Thread(target=answer)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


def test_container_reaches_a_host_outside_by_its_name_through_a_gate(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_one = socket.getaddrinfo

    def resolve(host: Any, *rest: Any, **more: Any) -> Any:
        return real_one("127.0.0.1" if host == "export.prod.example" else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    hall: Any = build(Hall)
    before = hall.web.read_text("/etc/hosts")
    with export() as number, hall.gate("web", to=f"export.prod.example:{number}") as gate:
        seen = hall.web.run("getent hosts export.prod.example").stdout
        assert seen.split() == [gate.address, "export.prod.example"]
        with hall.web.connect(number, "export.prod.example") as sock:
            sock.sendall(b"who are you?")
            assert sock.recv(100) == b"not who are you?"
    assert hall.web.read_text("/etc/hosts") == before
    assert gate.record.sent_bytes == len("who are you?")
    assert not hall.web.run("getent hosts export.prod.example", check=False).ok


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_client_inside_the_network_of_a_container(build: Build) -> None:
    hall: Any = build(Hall)
    with hall.web.socket() as server:
        server.bind(("10.0.0.1", 80))
        server.listen()
        with hall.inside("lan"), socket.create_connection(("web", 80), timeout=5) as sock:
            accepted, peer = server.accept()
            with accepted:
                assert peer[0] == "10.0.0.254"
                assert sock.getpeername() == ("10.0.0.1", 80)
