"""Echoes from inside a machine, without a ``ping`` program there."""

from __future__ import annotations

import struct

import pytest

from pytest_carthage import Layout, Machine, Network
from pytest_carthage.live.machines.echo import _checksum, _packet
from tests.live.conftest import Build


class Pair(Layout):
    lan = Network("10.0.0.0/24")
    six = Network("fd00:7::/64")
    left = Machine(links={"eth0": lan.at(".1"), "eth1": six.at("::1")})
    right = Machine(links={"eth0": lan.at(".2"), "eth1": six.at("::2")})


def test_checksum_of_a_packet_with_its_checksum_is_zero() -> None:
    assert _checksum(_packet(8, checked=True)) == 0
    # the example of RFC 1071, section 3
    assert _checksum(struct.pack("!4H", 0x0001, 0xF203, 0xF4F5, 0xF6F7)) == 0xFFFF - 0xDDF2


@pytest.mark.real
@pytest.mark.parametrize("host", ["right", "10.0.0.2", "fd00:7::2"])
def test_ping_neighbour_returns_the_seconds(build: Build, host: str) -> None:
    assert 0 < build(Pair)["left"].ping(host) < 1


@pytest.mark.real
def test_ping_nobody_tells_so(build: Build) -> None:
    expected = r"^machine 'left' of layout 'Pair': no echo from 10\.0\.0\.9 after 0\.1 s$"
    with pytest.raises(TimeoutError, match=expected):
        build(Pair)["left"].ping("10.0.0.9", timeout_s=0.1)


@pytest.mark.real
def test_ping_without_a_route_tells_so(build: Build) -> None:
    with pytest.raises(OSError, match=r"machine 'left'.*198\.51\.100\.1: Network is unreachable"):
        build(Pair)["left"].ping("198.51.100.1")
