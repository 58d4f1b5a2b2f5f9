"""A host that has the very addresses of the layout; for a network namespace of its own only."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from pytest_carthage import Layout, Machine, Network


class Office(Layout):
    lan = Network("10.0.0.0/24")
    dmz = Network("192.168.1.0/24")
    gw = Machine(links={"lan0": lan.at(".1"), "dmz0": dmz.at(".1")}, masquerade="dmz0")
    db = Machine(links={"eth0": lan.at(".10", gateway=".1")})
    web = Machine(links={"eth0": dmz.at(".20", gateway=".1")})


office = Office.fixture()

PORT = 5432
#: the host's own, each also an address of the layout
ADDRESSES = {"crowd0": "10.0.0.10", "crowd1": "192.168.1.20"}


def answering(listener: socket.socket, word: bytes) -> None:
    """Say one word to whoever connects, until the socket is closed."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.sendall(word)

    threading.Thread(target=serve, daemon=True).start()


@pytest.fixture(scope="session")
def host() -> Iterator[None]:
    """Two networks of the host's own, with a server on each."""
    assert os.environ.get("CROWDED_HOST") == "a namespace of its own"
    # IPv6 talks by itself; here, every packet must be somebody's
    Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("0")
    with IPRoute() as ip:
        ip.link("set", index=ip.link_lookup(ifname="lo")[0], state="up")
        for name, address in ADDRESSES.items():
            ip.link("add", ifname=name, kind="veth", peer=f"{name}p")
            for end in (name, f"{name}p"):
                ip.link("set", index=ip.link_lookup(ifname=end)[0], state="up")
            ip.addr("add", index=ip.link_lookup(ifname=name)[0], address=address, prefixlen=24)
    with socket.create_server(("0.0.0.0", PORT)) as listener:
        answering(listener, b"the host")
        yield
        listener.shutdown(socket.SHUT_RDWR)
