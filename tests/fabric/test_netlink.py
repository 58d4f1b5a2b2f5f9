"""What the kernel says of this namespace, and how it refuses."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from pytest_carthage.fabric import netlink


def test_addresses_and_routes_of_this_namespace_name_loopback() -> None:
    rows = netlink.addresses()
    assert "lo" in {row["interface"] for row in rows}
    assert {row["interface"] for row in rows} == {name for _, name in socket.if_nameindex()}
    for row in netlink.routes():
        assert row["destination"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_commit_names_what_the_kernel_refused() -> None:
    batch = netlink.Batch()
    batch.address("lo", "127.0.0.1/8")  # it has this one already
    with pytest.raises(FileExistsError, match=r"address 127.0.0.1/8 on lo: File exists"):
        batch.commit()


def test_index_of_unknown_interface_is_an_error() -> None:
    with pytest.raises(OSError, match=r"[Nn]o (such device|interface)"):
        netlink.index_of("no-such-link")


_CROWD = """
import os
from pytest_carthage.fabric import netlink, syscalls
from pytest_carthage.fabric.bridges import until_up
from pytest_carthage.fabric.wire import steps

syscalls.unshare(syscalls.CLONE_NEWNET | syscalls.CLONE_NEWNS)
syscalls.mount("none", "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
syscalls.mount("sysfs", "/sys", "sysfs")
here = os.open("/proc/self/ns/net", os.O_RDONLY)
batch = netlink.Batch()
batch.bridge("lan")
batch.commit()
batch = netlink.Batch()
names = [(f"port{number}", f"end{number}") for number in range(250)]
for port, end in names:
    batch.veth(port, bridge_index=netlink.index_of("lan"), peer=end, peer_namespace_fd=here,
               mac=None, mtu=None)
batch.commit()
batch = netlink.Batch()
for port, end in names[1:]:
    batch.up(end)
batch.commit()
# the first one has no carrier, and another one is not there
steps.finish(until_up(["nobody", *(port for port, end in names)]))
states = [open(f"/sys/class/net/{port}/operstate").read().strip() for port, end in names]
assert states[1:] == ["up"] * 249, states
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_until_up_ends_when_packets_pass_all_that_have_a_carrier() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CROWD], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")
