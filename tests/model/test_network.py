from __future__ import annotations

from dataclasses import FrozenInstanceError
from ipaddress import ip_network

import pytest

from pytest_carthage import Layout, Network


def test_network_takes_text_and_ipaddress() -> None:
    assert Network("10.0.0.0/24").subnet == ip_network("10.0.0.0/24")
    assert Network(ip_network("fd00::/64")).subnet == ip_network("fd00::/64")


def test_networks_with_one_subnet_are_different_networks() -> None:
    assert Network("10.0.0.0/24") != Network("10.0.0.0/24")


def test_network_has_the_name_of_its_member() -> None:
    class Shop(Layout):
        lan = Network("10.0.0.0/24", mtu=9000)

    assert Shop.lan.name == "lan"
    assert Shop.lan.mtu == 9000
    assert repr(Shop.lan) == "Network('10.0.0.0/24')"


def test_network_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Network("10.0.0.0/24").mtu = 1500  # type: ignore[misc]


def test_link_writes_its_mac_in_the_usual_way() -> None:
    assert Network("10.0.0.0/24").at(mac="02-AB-00-00-00-01").mac == "02:ab:00:00:00:01"


def test_link_knows_the_line_of_its_author() -> None:
    link = Network("10.0.0.0/24").at(".1")
    assert link.place.file == __file__
