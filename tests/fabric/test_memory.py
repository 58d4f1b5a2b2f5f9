"""What the kernel remembers of peers is forgotten with a crash, and learnt again at once."""

from __future__ import annotations

import pytest

from tests.fabric.alone import alone

pytestmark = pytest.mark.real

#: two namespaces with a cable between them; this is in the first one
HEAD = """
import os, socket, struct, subprocess, time
from pytest_carthage.fabric import memory, netlink, syscalls as sys_

here = os.open("/proc/self/ns/net", os.O_RDONLY)
sys_.unshare(sys_.CLONE_NEWNET)
there = os.open("/proc/self/ns/net", os.O_RDONLY)
sys_.setns(here, sys_.CLONE_NEWNET)

def commit(*calls):
    batch = netlink.Batch()
    for name, *values in calls:
        getattr(batch, name)(*values)
    batch.commit()

batch = netlink.Batch()
batch.veth("near", bridge_index=0, peer="far", peer_namespace_fd=there, mac="02:00:00:00:00:02",
           mtu=None)
batch.commit()
commit(("up", "lo"), ("address", "near", "192.0.2.1/24"), ("up", "near"))
sys_.setns(there, sys_.CLONE_NEWNET)
commit(("up", "lo"), ("address", "far", "192.0.2.2/24"), ("up", "far"))
sys_.setns(here, sys_.CLONE_NEWNET)

def neighbours():
    "Address to hardware address and state of those whom the kernel has met."
    out = subprocess.run(["ip", "-4", "neigh"], stdout=subprocess.PIPE, text=True).stdout
    return {line.split()[0]: line.split()[3:] for line in out.splitlines()}

def send(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", (address, 9))
"""


def test_neighbours_are_forgotten() -> None:
    said = alone(
        HEAD
        + """
send("192.0.2.2")
deadline = time.monotonic() + 10
while neighbours()["192.0.2.2"][0] != "lladdr" and time.monotonic() < deadline:
    time.sleep(0.01)
print(neighbours()["192.0.2.2"][:2])
memory.forget_neighbours()
print(neighbours())
""",
        network=True,
    )
    assert said == "['lladdr', '02:00:00:00:00:02']\n{}\n"


def test_neighbour_that_is_asked_for_in_vain_is_met_again_and_others_are_left() -> None:
    said = alone(
        HEAD
        + """
send("192.0.2.8")
send("192.0.2.9")
print(sorted(neighbours().items()))
memory.meet_again({"192.0.2.9": "02:00:00:00:00:09", "192.0.2.7": "02:00:00:00:00:07"})
print(neighbours()["192.0.2.9"][:2], neighbours()["192.0.2.8"], "192.0.2.7" in neighbours())
""",
        network=True,
    )
    assert said == (
        "[('192.0.2.8', ['INCOMPLETE']), ('192.0.2.9', ['INCOMPLETE'])]\n"
        "['lladdr', '02:00:00:00:00:09'] ['INCOMPLETE'] False\n"
    )


def test_connections_are_forgotten_without_a_word_to_the_peer_and_listeners_stay() -> None:
    said = alone(
        HEAD
        + """
listener = socket.create_server(("192.0.2.1", 80))
sys_.setns(there, sys_.CLONE_NEWNET)
peer = socket.create_connection(("192.0.2.1", 80), timeout=10)
commit(("down", "far"))  # as a crash is told to nobody
sys_.setns(here, sys_.CLONE_NEWNET)
taken, _ = listener.accept()
memory.forget_connections()
try:
    taken.send(b"x")
    print("it is still there")
except OSError as error:
    print(type(error).__name__)
sys_.setns(there, sys_.CLONE_NEWNET)
commit(("up", "far"))
sys_.setns(here, sys_.CLONE_NEWNET)
peer.settimeout(0.5)
try:
    print(peer.recv(1))
except TimeoutError:
    print("not a word")
listener.settimeout(5)
sys_.setns(there, sys_.CLONE_NEWNET)
again = socket.create_connection(("192.0.2.1", 80), timeout=10)
print(listener.accept()[1][0])
""",
        network=True,
    )
    assert said == "ConnectionAbortedError\nnot a word\n192.0.2.2\n"
