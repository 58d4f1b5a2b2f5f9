"""Nothing of the fabric's own is on an author's networks, from their beginning to their end."""

from __future__ import annotations

import contextlib
import socket
import time
from collections import Counter

import pytest

from pytest_carthage.fabric.wire import client
from tests.fabric.conftest import Bench

pytestmark = pytest.mark.real

_ETH_P_ALL = 0x0003
#: as long as what begins with a link goes on: duplicate addresses, solicitations, reports
IDLE_S = 5.0

A, B, C, D = (f"02:00:00:00:00:0{number}" for number in "1234")


class Ear:
    """Hears all that passes any interface of the fabric, also those that are not there yet."""

    def __init__(self, bench: Bench) -> None:
        with client.connect(str(bench.folder / "fabric.sock")) as fabric:
            _, fds = fabric.request(
                "socket",
                machine=None,
                family=int(socket.AF_PACKET),
                type=int(socket.SOCK_RAW),
                proto=socket.htons(_ETH_P_ALL),
            )
        self._sock = socket.socket(fileno=fds[0])
        self._sock.setblocking(False)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)

    def close(self) -> None:
        """Stop."""
        self._sock.close()

    def heard(self) -> Counter[tuple[str, str]]:
        """Who has sent, and the kind (EtherType, and protocol of IP), how often."""
        count: Counter[tuple[str, str]] = Counter()
        with contextlib.suppress(BlockingIOError):
            while frame := self._sock.recv(1 << 16):
                kind = frame[12:14].hex()
                if kind == "0800":
                    kind += f"/{frame[23]}"
                count[frame[6:12].hex(":"), kind] += 1
        return count


def test_only_machines_send_on_networks_of_each_kind(bench: Bench) -> None:
    with contextlib.closing(Ear(bench)) as ear:
        bench.networks(lan="bridged", wire="point-to-point", mac="bridged")
        links = [
            {"interface": "eth0", "network": "lan", "mac": A, "addresses": ["10.0.0.1/24"]},
            {"interface": "eth1", "network": "wire", "mac": B, "addresses": ["10.1.0.1/30"]},
            {
                "interface": "eth2",
                "kind": "macvlan",
                "network": "mac",
                "mac": C,
                "addresses": ["10.2.0.1/24"],
            },
        ]
        assert not bench.machine("a", *links)
        assert not bench.machine("b", {**links[0], "mac": D, "addresses": ["10.0.0.2/24"]})
        assert bench.pings("a", "10.0.0.2")
        bench.run_in("a", "ip address add 10.9.9.1/24 dev eth0; ip link set eth0 down")
        bench.run_in("a", "ip link set eth0 up")
        time.sleep(IDLE_S)
        for name in ("a", "b"):
            bench.ask("stop", machine=name)
            bench.ask("start", machine=name)
            bench.ask("stop", machine=name)
        time.sleep(0.5)
        heard = ear.heard()

    assert {sender for sender, _ in heard} == {A, B, C, D}, heard
    # what machines say of themselves passes: ARP, neighbours of IPv6, echoes
    kinds = {kind for sender, kind in heard if sender == A}
    assert {"0806", "86dd", "0800/1"} <= kinds


def test_bridges_pass_what_nobody_asked_for_by_igmp(bench: Bench) -> None:
    bench.networks(lan="bridged")
    bench.machines(
        *(
            {
                "name": name,
                "links": [
                    {"interface": "eth0", "network": "lan", "addresses": [f"10.0.0.{number}/24"]}
                ],
            }
            for number, name in enumerate("abc", 1)
        )
    )
    with (
        bench.socket_of("a", socket.AF_INET, socket.SOCK_DGRAM) as sender,
        bench.socket_of("b", socket.AF_INET, socket.SOCK_DGRAM) as receiver,
    ):
        group = socket.inet_aton("239.1.2.3")
        receiver.bind(("", 5000))
        receiver.settimeout(5)
        membership = group + socket.inet_aton("10.0.0.2")
        receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("10.0.0.1"))
        for _ in range(20):
            sender.sendto(b"to all", ("239.1.2.3", 5000))
            with contextlib.suppress(TimeoutError):
                assert receiver.recv(100) == b"to all"
                break
        else:
            pytest.fail("no multicast passes")
    shown = bench.inside(
        "cat /sys/class/net/br-lan/bridge/multicast_snooping 2>/dev/null || ip -d link show br-lan"
    )
    assert "mcast_snooping 0" in shown or shown.strip() == "0"
