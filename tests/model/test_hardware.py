from __future__ import annotations

from ipaddress import IPv6Network

from pytest_carthage.model.addresses.hardware import from_mac, mac_address


def test_mac_is_the_same_every_time_unless_taken() -> None:
    first = mac_address("Shop", "web", "eth0", ())
    assert mac_address("Shop", "web", "eth0", ()) == first
    assert mac_address("Shop", "web", "eth1", ()) != first
    assert mac_address("Shop", "web", "eth0", {first}) != first


def test_address_derived_from_a_mac_is_the_one_that_hosts_derive() -> None:
    # RFC 4291, appendix A: the bit for "universal" is inverted, ff:fe is put in the middle
    derived = from_mac("34:56:78:9a:bc:de", IPv6Network("2001:db8::/64"))
    assert str(derived) == "2001:db8::3656:78ff:fe9a:bcde"
