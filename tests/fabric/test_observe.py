"""What a machine looks like from inside."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from pytest_carthage.fabric import observe
from tests.fabric.alone import alone

HEAD = (
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout\n"
)


def line(local: str, state: str) -> str:
    return f"   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0\n"


@pytest.mark.parametrize(
    ("protocol", "local", "address", "port"),
    [
        ("tcp", "0100007F:0016", "127.0.0.1", 22),
        ("tcp", "00000000:1F90", "0.0.0.0", 8080),
        ("tcp6", "00000000000000000000000000000000:0050", "::", 80),
        ("tcp6", "B80D0120000000000000000001000000:01BB", "2001:db8::1", 443),
        ("tcp6", "0000000000000000FFFF00000100007F:0016", "::ffff:7f00:1", 22),
        ("udp", "0101A8C0:0035", "192.168.1.1", 53),
        ("udp6", "000080FE00000000FF005450B1CD0302:0222", "fe80::5054:ff:203:cdb1", 546),
    ],
)
def test_socket_that_waits_has_its_address_and_port(
    protocol: str, local: str, address: str, port: int
) -> None:
    state = observe.LISTS[protocol]
    rows = observe.waiting(protocol, HEAD + line(local, state))
    shown = [(row["protocol"], ip_address(row["address"]), row["port"]) for row in rows]
    assert shown == [(protocol, ip_address(address), port)]


@pytest.mark.parametrize("protocol", sorted(observe.LISTS))
def test_socket_that_has_a_peer_is_not_told(protocol: str) -> None:
    size = 32 if protocol.endswith("6") else 8
    assert observe.waiting(protocol, HEAD + line(f"{'0' * size}:0016", "01")) == []
    assert observe.waiting(protocol, HEAD) == []


@pytest.mark.real
def test_everything_of_a_place_with_nothing_but_loopback_and_two_processes() -> None:
    said = alone(
        """
import json, os, socket, subprocess
from pytest_carthage.fabric import netlink, observe
batch = netlink.Batch()
batch.up("lo")
batch.commit()
child = subprocess.Popen(["sleep", "100"])
gone = subprocess.Popen(["true"])
for process, state in ((gone, "Z"), (child, "S")):
    while open(f"/proc/{process.pid}/stat").read().split()[2] != state:
        pass
sock = socket.create_server(("127.0.0.1", 81))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("127.0.0.1", 82))
seen = observe.everything()
own, sleeps, zombie = seen["processes"]
print(own["pid"], own["ppid"], own["user"], own["state"], own["rss_kib"] > 1000)
print(sleeps["pid"] == child.pid, sleeps["ppid"], sleeps["state"], sleeps["args"])
print(zombie["pid"] == gone.pid, zombie["state"], zombie["args"])
print([(row["protocol"], row["address"], row["port"]) for row in seen["listening"]])
print([row["address"] for row in seen["addresses"] if row["address"] and ":" not in row["address"]])
print([row for row in seen["routes"] if row["via"]], seen["hostname"] == socket.gethostname())
""",
        network=True,
    )
    assert said.splitlines() == [
        "1 0 root R True",
        "True 1 S sleep 100",
        "True Z [true]",
        "[('tcp', '127.0.0.1', 81), ('udp', '127.0.0.1', 82)]",
        "['127.0.0.1/8']",
        "[] True",
    ]
