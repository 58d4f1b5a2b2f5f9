"""What the kernel says of this namespace, and how it refuses."""

from __future__ import annotations

import os
import socket

import pytest

from pytest_carthage.fabric import machine, netlink


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


def test_masquerade_rules_name_every_interface() -> None:
    rules = machine.masquerade_rules(["wan0", "wan1"])
    assert rules.count("masquerade") == 2
    assert 'oifname "wan1" masquerade' in rules
