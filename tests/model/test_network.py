from __future__ import annotations

from dataclasses import FrozenInstanceError
from ipaddress import ip_network
from typing import Any

import pytest

from pytest_carthage import (
    Layout,
    LinkContext,
    Network,
    NetworkConfig,
    NetworkLink,
    V4Config,
    V6Config,
    trunk,
)


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


def test_network_shows_its_subnets_and_its_kind_where_that_is_special() -> None:
    assert repr(Network("10.0.0.0/24", "fd00::/64")) == "Network('10.0.0.0/24', 'fd00::/64')"
    assert repr(Network("fd00::/64", "10.0.0.0/24")) == "Network('10.0.0.0/24', 'fd00::/64')"
    assert repr(Network("10.0.0.0/24", kind="gre")) == "Network('10.0.0.0/24', kind='gre')"
    assert repr(Network("10.0.0.0/24", ipv6=False)) == "Network('10.0.0.0/24', ipv6=False)"
    assert repr(Network()) == "Network()"
    assert repr(Network("lan")) == "Network(faulty)"


def test_network_of_frames_has_no_subnet_and_says_so() -> None:
    class Shop:
        frames = Network()

    assert Shop.frames.subnets == (None, None)
    with pytest.raises(ValueError, match=r"^network 'frames' has no subnet$"):
        _ = Shop.frames.subnet


def test_subnet_of_a_network_of_both_is_that_of_ipv4() -> None:
    assert str(Network("fd00::/64", "10.0.0.0/24").subnet) == "10.0.0.0/24"
    assert str(Network("fd00::/64").subnet) == "fd00::/64"


def test_network_keeps_all_its_mistakes() -> None:
    network: Any = Network(
        "lan",
        v4="10.0.0.0/24",  # type: ignore[arg-type]
        v6=V6Config(gateway="::1"),
        kind="ring",  # type: ignore[arg-type]
        mtu=7,
        vlan_id=True,
        vni=0,
        ipv6=False,
    )
    assert [(one.what, one.remedy) for one in network.mistakes] == [
        ("v4='10.0.0.0/24' is no V4Config", "v4=V4Config(...)"),
        ("'lan' is not a subnet", 'Network("10.0.0.0/24")'),
        ("v6 has no network", 'V6Config(network="fd00::/64")'),
        ("kind 'ring' is unknown", "one of bridged, point-to-point, vxlan, gre"),
        ("mtu 7 is not a number from 576 to 65535", "mtu=1500, or leave it out"),
        ("vlan_id True is not a number from 1 to 4094", "vlan_id=10"),
        ("vni 0 is not a number from 1 to 16777215", "vni=10"),
        ("ipv6=False beside a v6= configuration", "leave one of them out"),
    ]
    assert {one.place for one in network.mistakes} == {network.place}


@pytest.mark.parametrize(
    "network",
    [
        Network("10.0.0.0/24", mtu=576, vlan_id=1, vni=1),
        Network("10.0.0.0/24", mtu=65535, vlan_id=4094, vni=2**24 - 1),
        Network("fd00::/64", mtu=1280),
        Network("fd00::/64", v6=V6Config(gateway="::1")),
        Network(v4=V4Config(network="10.0.0.0/24")),
    ],
)
def test_network_at_the_limits_of_what_is_possible_is_right(network: Network) -> None:
    assert network.mistakes == ()


def test_subnet_goes_into_the_configuration_of_its_family() -> None:
    network = Network("fd00::/64", "10.0.0.0/24", v4=V4Config(gateway=".1"))
    assert network.v4 is not None
    assert network.v6 is not None
    assert (str(network.v4.network), network.v4.gateway) == ("10.0.0.0/24", ".1")
    assert (str(network.v6.network), network.v6.gateway) == ("fd00::/64", None)
    assert network.config(4) is network.v4
    assert network.config(6) is network.v6


# what at() takes

LAN = Network("10.0.0.0/24", "fd00::/64", vlan_id=1)
FOUR = Network("10.1.0.0/24")
TUNNEL = Network("10.2.0.0/24", kind="vxlan")
GRE = Network("10.3.0.0/24", kind="gre")
WIRE = Network("10.4.0.0/30", kind="point-to-point")


def said(link: NetworkLink) -> tuple[str, str]:
    """What a link says in each family."""
    return repr(link.v4), repr(link.v6)


@pytest.mark.parametrize(
    ("link", "four", "six"),
    [
        (LAN.at(), "V4Config(address='auto')", "V6Config(address='auto')"),
        (LAN.at("auto"), "V4Config(address='auto')", "V6Config(address='auto')"),
        (FOUR.at(), "V4Config(address='auto')", "None"),
        (LAN.at(".1"), "V4Config(address='.1')", "None"),
        (LAN.at("::1"), "None", "V6Config(address='::1')"),
        (LAN.at("::1", ".1"), "V4Config(address='.1')", "V6Config(address='::1')"),
        (LAN.at(None), "None", "None"),
        (
            LAN.at(".1", gateway=".9", metric=5),
            "V4Config(address='.1', gateway='.9', metric=5)",
            "None",
        ),
        (
            LAN.at(gateway="::9", metric=5),
            "V4Config(address='auto', metric=5)",
            "V6Config(address='auto', gateway='::9', metric=5)",
        ),
        (
            LAN.at(gateway=False),
            "V4Config(address='auto', gateway=False)",
            "V6Config(address='auto', gateway=False)",
        ),
        (LAN.at(dhcp=True), "V4Config(dhcp=True)", "V6Config(dhcp=True)"),
        (
            LAN.at("auto", dhcp=True),
            "V4Config(address='auto', dhcp=True)",
            "V6Config(address='auto', dhcp=True)",
        ),
        (LAN.at(slaac=True), "V4Config(address='auto')", "V6Config(slaac=True)"),
        (FOUR.at(masquerade=True), "V4Config(address='auto', masquerade=True)", "None"),
        (
            LAN.at(".1", secondary_addresses=["::5"]),
            "V4Config(address='.1')",
            "V6Config(secondary_addresses=['::5'])",
        ),
        (
            LAN.at(v4=V4Config(metric=1), metric=2),
            "V4Config(address='auto', metric=2)",
            "V6Config(address='auto', metric=2)",
        ),
        (
            LAN.at(v4=V4Config(address=".7")),
            "V4Config(address='.7')",
            "V6Config(address='auto')",
        ),
        (
            LAN.at(v4=V4Config(dhcp=True), v6=V6Config(slaac=True)),
            "V4Config(dhcp=True)",
            "V6Config(slaac=True)",
        ),
        (
            LAN.at(".1", public_address="192.0.2.1"),
            "V4Config(address='.1', public_address='192.0.2.1')",
            "None",
        ),
    ],
)
def test_short_arguments_are_for_the_family_that_they_fit(
    link: NetworkLink, four: str, six: str
) -> None:
    assert said(link) == (four, six)
    assert link.mistakes == ()
    assert link.bare is (four == six == "None")


@pytest.mark.parametrize(
    ("link", "what", "remedy"),
    [
        (LAN.at(None, ".1"), "None beside other addresses", "leave it out"),
        (
            LAN.at(".1", "10.0.0.2"),
            "address '10.0.0.2' is a second one of IPv4",
            "secondary_addresses=['10.0.0.2']",
        ),
        (
            LAN.at("auto", "::1"),
            "address '::1' is a second one of IPv6",
            "secondary_addresses=['::1']",
        ),
        (LAN.at(v6="::1"), "v6='::1' is no V6Config", "v6=V6Config(...)"),  # type: ignore[arg-type]
        (
            LAN.at(v4=V6Config()),  # type: ignore[arg-type]
            "v4=V6Config() is no V4Config",
            "v4=V4Config(...)",
        ),
        (
            LAN.at(None, dhcp=True),
            "dhcp= beside None, which means no addresses",
            "leave one of them out",
        ),
        (
            LAN.at(".1", expects=".1"),
            "expects='.1' beside an address that the layout sets",
            "at(None, expects=...) where the machine sets it, or leave it out",
        ),
        (
            LAN.at(None, expects=[".1", ".2"]),
            "expects has a second address of IPv4, '.2'",
            "the one that others are to know it by",
        ),
        (
            LAN.at(None, expects="10.0.0.1/99"),
            "expects='10.0.0.1/99' is no address",
            'expects="10.0.0.1/24"',
        ),
        (
            LAN.at(None, expects=7),  # type: ignore[arg-type]
            "expects=7 is no address",
            'expects="10.0.0.1/24"',
        ),
        (
            LAN.at(None, expects=".1", gateway=".2", dhcp=True),
            "dhcp= beside None, which means no addresses",
            "leave one of them out",
        ),
        (
            LAN.at(mac="ff:ff:ff:ff:ff:ff"),
            "mac 'ff:ff:ff:ff:ff:ff' is not a unicast hardware address",
            'mac="02:00:00:00:00:01", or leave it out',
        ),
        (
            LAN.at(mac="00:00:00:00:00:00"),
            "mac '00:00:00:00:00:00' is not a unicast hardware address",
            'mac="02:00:00:00:00:01", or leave it out',
        ),
        (
            LAN.at(mac="02:00:00:00:01"),
            "mac '02:00:00:00:01' is not a unicast hardware address",
            'mac="02:00:00:00:00:01", or leave it out',
        ),
        (
            LAN.at(mac=7),  # type: ignore[arg-type]
            "mac 7 is not a unicast hardware address",
            'mac="02:00:00:00:00:01", or leave it out',
        ),
        (LAN.at(mtu=0), "mtu 0 is not a number from 576 to 65535", "mtu=1500, or leave it out"),
        (
            LAN.at(required="yes"),  # type: ignore[arg-type]
            "required='yes' is neither True nor False",
            "required=True",
        ),
        (
            LAN.at(admin_up=0),  # type: ignore[arg-type]
            "admin_up=0 is neither True nor False",
            "admin_up=True",
        ),
        (
            LAN.at(dns_name="LocalHost.example"),
            "dns_name 'LocalHost.example' is no name for the DNS",
            'dns_name="www.prod.example"',
        ),
        (
            LAN.at(kind="tap"),  # type: ignore[arg-type]
            "kind 'tap' is unknown",
            'kind="macvlan", or leave it out',
        ),
        (
            LAN.at(kind="trunk"),
            "kind 'trunk' is for interfaces that carry several networks",
            "trunk(lan, dmz), and over= on the links to them",
        ),
        (LAN.at(kind="vlan"), "a link of kind 'vlan' stands on one trunk", 'over="eth0"'),
        (
            LAN.at(over=("eth0", "eth1")),
            "a link of kind 'vlan' stands on one trunk",
            'over="eth0"',
        ),
        (
            LAN.at(kind="macvlan", over="eth0"),
            "over=['eth0'] is not for kind 'macvlan'",
            "leave it out",
        ),
        (LAN.at(kind="bond"), "a bond of 0 interfaces", 'bond=("eth0", "eth1")'),
        (
            LAN.at(bond=[f"p{number}" for number in range(9)]),
            "a bond of 9 interfaces",
            'bond=("eth0", "eth1")',
        ),
        (
            LAN.at(kind="macvlan", bond=["p0"]),
            "bond= is not for kind 'macvlan'",
            "leave one of them out",
        ),
        (LAN.at(over=7), "over=7 is no name of an interface", 'over="eth0"'),  # type: ignore[arg-type]
        (
            LAN.at(bond=[7]),  # type: ignore[list-item]
            "bond=[7] is no name of an interface",
            'bond="eth0"',
        ),
        (
            LAN.at(kind="gre"),
            "kind 'gre' is one of networks",
            'Network(..., kind="gre"), and over= on its links',
        ),
        (
            TUNNEL.at(over=("a", "b")),
            "a link to a network of kind 'vxlan' has to stand on one interface",
            'over="eth0", an interface of the machine that reaches the other ends',
        ),
        (
            TUNNEL.at(kind="macvlan", over=()),
            "a link to a network of kind 'vxlan' has to stand on one interface",
            'over="eth0", an interface of the machine that reaches the other ends',
        ),
        (
            GRE.at(over="eth0", bond=("a", "b")),
            "a tunnel's link cannot be of kind 'gre'",
            "leave kind= and bond= out",
        ),
        (
            WIRE.at(kind="macvlan"),
            "kind 'macvlan' is not possible on a point-to-point network",
            "leave it out",
        ),
        (trunk(), "a trunk of no networks", "trunk(lan, dmz)"),
        (trunk(LAN, 7), "a trunk of 7", "trunk(lan, dmz)"),  # type: ignore[arg-type]
        (
            trunk(FOUR),
            "Network('10.1.0.0/24') on a trunk has no vlan_id",
            "Network(..., vlan_id=10)",
        ),
        (trunk(LAN, mtu=1), "mtu 1 is not a number from 576 to 65535", "mtu=1500, or leave it out"),
    ],
)
def test_link_that_is_wrong_whatever_its_machine_is_a_mistake(
    link: NetworkLink, what: str, remedy: str
) -> None:
    first = link.mistakes[0]
    assert (first.what, first.remedy) == (what, remedy)
    assert first.place == link.place
    assert link.place.file == __file__


@pytest.mark.parametrize(
    ("link", "kind"),
    [
        (LAN.at(), "bridged"),
        (WIRE.at(), "bridged"),
        (LAN.at(kind="macvlan"), "macvlan"),
        (LAN.at(over="eth0"), "vlan"),
        (LAN.at(bond=("a", "b")), "bond"),
        (LAN.at(bond="a"), "bond"),
        (TUNNEL.at(over="eth0"), "vxlan"),
        (GRE.at(over=["eth0"]), "gre"),
        (trunk(LAN), "trunk"),
    ],
)
def test_kind_of_a_link_follows_from_what_it_is_given(link: NetworkLink, kind: str) -> None:
    assert link.kind == kind
    assert link.mistakes == ()


def test_trunk_carries_what_it_is_given_and_has_no_address_of_its_own() -> None:
    link = trunk(LAN, mac="02-00-00-00-00-0A", mtu=9000)
    assert (link.network, link.bare, link.carries) == (None, True, (LAN,))
    assert (link.mac, link.mtu) == ("02:00:00:00:00:0a", 9000)
    assert (link.config(4), link.config(6)) == (None, None)


def test_link_shows_where_it_leads() -> None:
    class Shop:
        lan = Network("10.0.0.0/24", vlan_id=1)

    assert repr(Shop.lan.at()) == "<NetworkLink to lan>"
    assert repr(trunk(Shop.lan, FOUR)) == "<NetworkLink to lan, Network('10.1.0.0/24')>"


def test_config_is_a_mapping_that_does_not_change() -> None:
    config = NetworkConfig({"eth0": LAN.at(".1")}, eth1=FOUR.at(".1"))
    assert list(config) == ["eth0", "eth1"]
    assert len(config) == 2
    other = config | {"eth1": LAN.at(".2"), "eth2": FOUR.at(".2")}
    assert [list(one) for one in (config, other)] == [["eth0", "eth1"], ["eth0", "eth1", "eth2"]]
    assert other["eth1"].network is LAN
    assert config["eth1"].network is FOUR
    assert repr(NetworkConfig(eth0=FOUR.at())) == (
        "NetworkConfig({'eth0': <NetworkLink to Network('10.1.0.0/24')>})"
    )
    with pytest.raises(KeyError):
        config["eth9"]


def test_function_is_for_every_family_that_the_link_has() -> None:
    def computed(_: LinkContext) -> str:
        return "10.0.0.9"

    for link in (LAN.at(gateway=computed), LAN.at(computed)):
        for config in (link.v4, link.v6):
            assert config is not None
            assert computed in (config.gateway, config.address)
    only = LAN.at(".1", gateway=computed, secondary_addresses=computed)
    assert only.v4 is not None
    assert (only.v4.gateway, only.v4.secondary_addresses) == (computed, computed)
    assert only.v6 is None
