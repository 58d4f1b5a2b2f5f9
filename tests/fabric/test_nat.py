"""Masquerade and port forwards: the rules, and what a kernel makes of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.fabric import nat, nft
from pytest_carthage.fabric.wire.steps import finish
from tests.fabric.specs import machine_spec


def forward(to: str, protocol: str = "tcp") -> dict[str, Any]:
    return {"interface": "wan0", "protocol": protocol, "port": 80, "to": to, "to_port": 8080}


def test_rules_name_every_interface_and_port() -> None:
    rules = nat.rules(
        machine_spec(
            links=[
                {"interface": "wan0", "masquerade": [4]},
                {"interface": "wan1", "masquerade": [4, 6]},
                {"interface": "lan0"},
            ],
            forwards=[forward("10.0.0.5"), forward("fd00::5", "udp")],
        )
    )
    assert [line.strip() for line in rules.splitlines() if "oifname" in line] == [
        'oifname "wan0" meta nfproto ipv4 masquerade',
        'oifname "wan1" meta nfproto ipv4 masquerade',
        'oifname "wan1" meta nfproto ipv6 masquerade',
    ]
    local = 'iifname "wan0" fib daddr type local meta nfproto'
    assert [line.strip() for line in rules.splitlines() if "iifname" in line] == [
        f"{local} ipv4 tcp dport 80 dnat ip to 10.0.0.5:8080",
        f"{local} ipv6 udp dport 80 dnat ip6 to [fd00::5]:8080",
    ]


def test_rules_lead_those_inside_there_by_the_router() -> None:
    link = {"interface": "wan0", "addresses": ["192.0.2.1/24", "2001:db8::1/64"]}
    rules = nat.rules(machine_spec(links=[link], forwards=[forward("10.0.0.5")]))
    inside = [line.strip() for line in rules.splitlines() if "iifname !=" in line]
    assert inside == [
        'iifname != "wan0" ip daddr 192.0.2.1 tcp dport 80 dnat ip to 10.0.0.5:8080',
        'iifname != "wan0" ct status dnat ct original ip daddr 192.0.2.1 ip daddr 10.0.0.5'
        " masquerade",
    ]


_ROUTER = """
import errno, os, socket
from pytest_carthage.fabric import nat, netlink, nft, syscalls
from pytest_carthage.fabric.bridges import until_up
from pytest_carthage.fabric.wire import steps

def new():
    syscalls.unshare(syscalls.CLONE_NEWNET)
    return os.open("/proc/self/ns/net", os.O_RDONLY)

def go(namespace):
    syscalls.setns(namespace, syscalls.CLONE_NEWNET)

def set_up(interface, addresses, gateways=()):
    batch = netlink.Batch()
    batch.up("lo")
    batch.up(interface)
    for address in addresses:
        batch.address(interface, address)
    for gateway in gateways:
        batch.route(None, gateway, interface)
    batch.commit()

outside, inside, router = new(), new(), new()
batch = netlink.Batch()
for name in ("lan", "wan"):
    batch.bridge(name)
batch.commit()
batch = netlink.Batch()
for name, there in (("lan", inside), ("wan", outside)):
    batch.veth(f"{name}p", bridge_index=netlink.index_of(name), peer="eth0",
               peer_namespace_fd=there, mac=None, mtu=None)
batch.commit()
set_up("lan", ["10.0.0.1/24", "fd00::1/64"])
set_up("wan", ["192.0.2.1/24", "2001:db8::1/64"])
for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
    with open(f"/proc/sys/net/{name}", "w") as file:
        file.write("1")
# by the router, also what is not asked of it: there, a port means what it always does
go(outside)
set_up("eth0", ["192.0.2.9/24", "2001:db8::9/64"], ["192.0.2.1", "2001:db8::1"])
go(inside)
set_up("eth0", ["10.0.0.10/24", "fd00::10/64"], ["10.0.0.1", "fd00::1"])
go(router)
steps.finish(until_up(["lanp", "wanp"]))
ports = [("tcp", 8080, "10.0.0.10", 80), ("udp", 53, "10.0.0.10", 5353),
         ("tcp", 8080, "fd00::10", 80)]
steps.finish(nft.load(nat.rules({
    "links": [{"interface": "wan", "masquerade": [4], "addresses": []},
              {"interface": "lan", "masquerade": [], "addresses": []}],
    "forwards": [{"interface": "wan", "protocol": protocol, "port": port, "to": to,
                  "to_port": to_port} for protocol, port, to, to_port in ports],
})))

def server(namespace, family, address, kind=socket.SOCK_STREAM):
    go(namespace)
    sock = socket.socket(family, kind)
    sock.settimeout(5)
    sock.bind(address)
    if kind == socket.SOCK_STREAM:
        sock.listen()
    return sock

def client(namespace, family, address, kind=socket.SOCK_STREAM):
    go(namespace)
    for attempt in range(3):  # a busy machine may take longer than neighbours are asked for
        sock = socket.socket(family, kind)
        sock.settimeout(5)
        try:
            sock.connect(address)
            return sock
        except OSError as error:
            if error.errno != errno.EHOSTUNREACH or attempt == 2:
                raise

four, six = socket.AF_INET, socket.AF_INET6
# forwarded by TCP, IPv4 and IPv6, the client's own address kept
for family, listens, asked, expected in (
    (four, "10.0.0.10", "192.0.2.1", "192.0.2.9"),
    (six, "fd00::10", "2001:db8::1", "2001:db8::9"),
):
    with server(inside, family, (listens, 80)) as web:
        client(outside, family, (asked, 8080))
        assert web.accept()[1][0] == expected
# and by UDP
with server(inside, four, ("10.0.0.10", 5353), socket.SOCK_DGRAM) as names:
    asker = client(outside, four, ("192.0.2.1", 53), socket.SOCK_DGRAM)
    asker.send(b"?")
    data, peer = names.recvfrom(9)
    assert (data, peer[0]) == (b"?", "192.0.2.9")
    names.sendto(b"!", peer)
    assert asker.recv(9) == b"!"
# what passes the router is left alone, and so is what comes from the other side
with server(inside, four, ("10.0.0.10", 80)):
    for namespace, address in ((outside, "10.0.0.10"), (inside, "10.0.0.1")):
        try:
            client(namespace, four, (address, 8080))
        except ConnectionRefusedError:
            pass
        else:
            raise AssertionError(f"{address}:8080 was forwarded")
# masqueraded by IPv4 alone
for family, listens, expected in (
    (four, "192.0.2.9", "192.0.2.1"),
    (six, "2001:db8::9", "fd00::10"),
):
    with server(outside, family, (listens, 80)) as web:
        client(inside, family, (listens, 80))
        assert web.accept()[1][0] == expected, expected
print("all is well")
"""


@pytest.mark.real
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.skipif(not shutil.which("nft", path="/usr/sbin:/usr/bin"), reason="no nft")
def test_router_forwards_ports_and_hides_addresses_of_one_family() -> None:
    root = str(Path(nat.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", _ROUTER],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert (done.returncode, done.stdout) == (0, "all is well\n"), done.stderr


@pytest.mark.real
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.skipif(not shutil.which("nft", path="/usr/sbin:/usr/bin"), reason="no nft")
def test_rules_that_nft_refuses_are_an_error_with_its_words() -> None:
    bad = machine_spec(forwards=[{**forward("10.0.0.5"), "protocol": "smoke"}])
    with pytest.raises(OSError, match=r"(?s)nft: .*syntax error.*smoke"):
        finish(nft.load(nat.rules(bad)))  # refused before it touches anything
