"""From what was written for one family to what it means: every form, and every mistake."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_carthage import V4Config, V6Config
from pytest_carthage.model.addresses.ipconfig import Address
from pytest_carthage.model.addresses.resolution import (
    PlannedAddressing,
    PlannedSecondary,
    PlannedSubnet,
    WrongValue,
    highest_free,
    is_domain,
    parse_network,
    pool_of,
    resolve_subnet,
    with_prefix,
)


def four(**values: Any) -> V4Config:
    return V4Config(network="10.0.0.0/24", **values)


def six(**values: Any) -> V6Config:
    return V6Config(network="fd00::/64", **values)


# subnets


@pytest.mark.parametrize(
    ("written", "version", "what", "remedy"),
    [
        ("10.0.0.0", None, "subnet '10.0.0.0' has no prefix length", 'Network("10.0.0.0/24")'),
        ("fd00::7", None, "subnet 'fd00::7' has no prefix length", 'Network("fd00::/64")'),
        ("lan", None, "'lan' is not a subnet", 'Network("10.0.0.0/24")'),
        ("lan", 6, "'lan' is not a subnet", 'Network("fd00::/64")'),
        ("10.0.0.0/33", None, "'10.0.0.0/33' is not a subnet", 'Network("10.0.0.0/24")'),
        ("10.0.0.9/24", None, "subnet '10.0.0.9/24' has host bits set", 'Network("10.0.0.0/24")'),
        ("fd00::9/64", 6, "subnet 'fd00::9/64' has host bits set", 'Network("fd00::/64")'),
        (None, 4, "subnet None is not text and not an ipaddress network", 'Network("10.0.0.0/24")'),
        (
            ip_address("10.0.0.1"),
            None,
            "subnet IPv4Address('10.0.0.1') is not text and not an ipaddress network",
            'Network("10.0.0.0/24")',
        ),
        (
            "ff02::/64",
            None,
            "subnet ff02::/64 is for multicast addresses only",
            'an ordinary subnet, such as Network("10.0.0.0/24")',
        ),
        (
            "127.1.0.0/16",
            4,
            "subnet 127.1.0.0/16 is for loopback addresses only",
            'an ordinary subnet, such as Network("10.0.0.0/24")',
        ),
        (
            "192.0.0.0/2",
            None,
            "subnet 192.0.0.0/2 has addresses that no machine can have: those of 224.0.0.0/4",
            'an ordinary subnet, such as Network("10.0.0.0/24")',
        ),
        ("fd00::/64", 4, "subnet fd00::/64 is of IPv6", "V6Config(network='fd00::/64')"),
        ("10.0.0.0/24", 6, "subnet 10.0.0.0/24 is of IPv4", "V4Config(network='10.0.0.0/24')"),
    ],
)
def test_what_is_no_subnet_is_refused_with_what_was_meant(
    written: Any, version: int | None, what: str, remedy: str
) -> None:
    with pytest.raises(WrongValue) as caught:
        parse_network(written, version=version)
    assert (caught.value.what, caught.value.remedy) == (what, remedy)
    assert str(caught.value) == what


@pytest.mark.parametrize(
    "written",
    [
        "10.0.0.0/24",
        "10.0.0.1/32",
        "10.0.0.0/31",
        "fd00::/64",
        "169.254.0.0/16",
        "fe80::/64",
    ],
)
def test_subnet_is_the_same_as_text_and_as_an_object(written: str) -> None:
    parsed = parse_network(written)
    assert str(parsed) == written
    assert parse_network(parsed, version=parsed.version) == ip_network(written)


# values


def test_subnet_of_nothing_else_has_nothing_else() -> None:
    assert resolve_subnet(four()) == PlannedSubnet(network=ip_network("10.0.0.0/24"))


def test_every_form_of_a_value_means_what_it_says() -> None:
    resolved = resolve_subnet(
        four(
            gateway=".1",
            dhcp_ranges=(".100", "10.0.0.199"),
            pool=[(".2", ".9"), (ip_address("10.0.0.20"), ".29")],
            dns_servers=["192.0.2.53", ".53", ip_address("10.0.0.54")],
            domains="shop.example",
            external_addresses=".1",
        )
    )
    assert resolved == PlannedSubnet(
        network=ip_network("10.0.0.0/24"),
        gateway=ip_address("10.0.0.1"),
        dhcp_ranges=((ip_address("10.0.0.100"), ip_address("10.0.0.199")),),
        pool=(
            (ip_address("10.0.0.2"), ip_address("10.0.0.9")),
            (ip_address("10.0.0.20"), ip_address("10.0.0.29")),
        ),
        dns_servers=tuple(map(ip_address, ("192.0.2.53", "10.0.0.53", "10.0.0.54"))),
        domains=("shop.example",),
        external_addresses=(ip_address("10.0.0.1"),),
    )


def test_functions_of_a_network_are_left_to_its_links() -> None:
    def fails(_: object) -> Any:
        raise AssertionError("it was called")

    assert resolve_subnet(four(gateway=fails, pool=fails, metric=fails)) == resolve_subnet(four())


@pytest.mark.parametrize(
    ("pool", "ranges"),
    [
        ("10.0.0.0/25", [("10.0.0.1", "10.0.0.127")]),
        ("10.0.0.128/25", [("10.0.0.128", "10.0.0.254")]),
        ("10.0.0.64/26", [("10.0.0.64", "10.0.0.127")]),
        ("10.0.0.0/24", [("10.0.0.1", "10.0.0.254")]),
        (ip_network("10.0.0.16/31"), [("10.0.0.16", "10.0.0.17")]),
        ("10.0.0.7/32", [("10.0.0.7", "10.0.0.7")]),
        ((".5", ".5"), [("10.0.0.5", "10.0.0.5")]),
        ([".5", ".6"], [("10.0.0.5", "10.0.0.6")]),
        ([(".7", ".8"), (".5", ".6")], [("10.0.0.7", "10.0.0.8"), ("10.0.0.5", "10.0.0.6")]),
        ([], []),
    ],
)
def test_pool_is_a_part_of_the_network_or_pairs_of_addresses(
    pool: Any, ranges: list[tuple[str, str]]
) -> None:
    assert [(str(low), str(high)) for low, high in resolve_subnet(four(pool=pool)).pool] == ranges


def test_part_of_an_ipv6_network_has_its_last_address_too() -> None:
    ((low, high),) = resolve_subnet(six(pool="fd00::/120")).pool
    assert (str(low), str(high)) == ("fd00::1", "fd00::ff")
    ((low, high),) = resolve_subnet(six(pool="fd00::/64")).pool
    assert str(high) == "fd00::ffff:ffff:ffff:ffff"


@pytest.mark.parametrize(
    ("values", "what", "remedy"),
    [
        (
            {"dhcp_ranges": [(".1",)]},
            "dhcp_ranges has ('.1',) instead of a first and a last address",
            'dhcp_ranges=[(".100", ".199")]',
        ),
        (
            {"pool": [".1", ".2", ".3"]},
            "pool has '.1' instead of a first and a last address",
            'pool=[(".100", ".199")]',
        ),
        ({"pool": "all"}, "pool='all' is no list of address pairs", 'pool=[(".100", ".199")]'),
        (
            {"pool": "fd00::/64"},
            "pool fd00::/64 is outside network 10.0.0.0/24",
            "a part of 10.0.0.0/24",
        ),
        (
            {"pool": "10.0.0.0/16"},
            "pool 10.0.0.0/16 is outside network 10.0.0.0/24",
            "a part of 10.0.0.0/24",
        ),
        (
            {"pool": "10.0.0.1/25"},
            "subnet '10.0.0.1/25' has host bits set",
            'Network("10.0.0.0/25")',
        ),
        (
            {"pool": [(".1", ".9"), (".9", ".12")]},
            "pool 10.0.0.1 to 10.0.0.9 and pool 10.0.0.9 to 10.0.0.12 overlap",
            "ranges that are apart",
        ),
        ({"pool": (".9", 7)}, "pool 7 is not text and not an ipaddress address", 'pool ".1"'),
        ({"dhcp": "yes"}, "dhcp='yes' is neither True nor False", "dhcp=True"),
        ({"metric": True}, "metric True is not a number", "metric=100"),
        ({"metric": "5"}, "metric '5' is not a number", "metric=100"),
        ({"metric": 2**32}, "metric 4294967296 is not from 0 to 4294967295", "metric=100"),
        ({"dns_servers": 7}, "dns_servers=7 is no list", "dns_servers=[...]"),
        ({"dns_servers": [7]}, "dns_servers 7 is not an IPv4 address", "dns_servers='10.0.0.1'"),
        (
            {"dns_servers": ["fd00::1"]},
            "dns_servers 'fd00::1' is not an IPv4 address",
            "dns_servers='10.0.0.1'",
        ),
        (
            {"dns_servers": [ip_interface("10.0.0.1/24")]},
            "dns_servers IPv4Interface('10.0.0.1/24') is not an IPv4 address",
            "dns_servers='10.0.0.1'",
        ),
        (
            {"dns_servers": ".300"},
            "dns_servers '.300' is not an address in network 10.0.0.0/24",
            None,
        ),
        ({"domains": 7}, "domains=7 is no list", "domains=[...]"),
        ({"domains": [7]}, "domains has 7, which is no domain name", 'domains=["prod.example"]'),
        (
            {"external_addresses": "10.1.0.1"},
            "external_addresses '10.1.0.1' is outside network 10.0.0.0/24",
            'external_addresses "10.0.0.1"',
        ),
        (
            {"gateway": True},
            "gateway True is not text and not an ipaddress address",
            'gateway ".1"',
        ),
        (
            {"gateway": ".0"},
            "gateway '.0' is the network's own address in network 10.0.0.0/24",
            None,
        ),
        (
            {"gateway": ".255"},
            "gateway '.255' is the broadcast address of network 10.0.0.0/24",
            None,
        ),
    ],
)
def test_value_that_makes_no_sense_is_refused(
    values: dict[str, Any], what: str, remedy: str | None
) -> None:
    with pytest.raises(WrongValue) as caught:
        resolve_subnet(four(**values))
    assert caught.value.what == what
    if remedy is not None:
        assert caught.value.remedy == remedy


def test_messages_name_the_interface_and_the_network_where_they_are_known() -> None:
    with pytest.raises(WrongValue) as caught:
        resolve_subnet(four(gateway="10.1.0.1"), where=" of interface 'eth0'", name="lan")
    assert caught.value.what == (
        "gateway '10.1.0.1' of interface 'eth0' is outside network 'lan' (10.0.0.0/24)"
    )


def test_slaac_needs_64_bits_only_where_it_is_wanted() -> None:
    assert resolve_subnet(six(slaac=True)).slaac is True
    assert resolve_subnet(V6Config(network="fd00::/48", slaac=False)).slaac is False
    with pytest.raises(WrongValue, match="slaac needs a prefix of 64 bits, fd00::/65 has 65"):
        resolve_subnet(V6Config(network="fd00::/65", slaac=True))
    with pytest.raises(WrongValue, match="slaac='yes' is neither True nor False"):
        resolve_subnet(six(slaac="yes"))


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("a", True),
        ("prod.example", True),
        ("_sip._tcp.example", True),
        ("a-b.1", True),
        ("a" * 63 + ".b", True),
        ("a" * 64 + ".b", False),
        (".".join(["a" * 49] * 5), True),
        (".".join(["a" * 63] * 4), False),
        ("", False),
        (".", False),
        ("a.", False),
        (".a", False),
        ("a..b", False),
        ("-a", False),
        ("a-", False),
        ("a b", False),
        ("ä", False),
        ("a\n", False),
        (None, False),
        (7, False),
    ],
)
def test_domain_is_a_name_as_hosts_have(name: object, is_one: bool) -> None:
    assert is_domain(name) is is_one


# what is left


def test_address_gets_the_prefix_length_of_its_subnet() -> None:
    assert with_prefix(ip_address("10.0.0.7"), ip_network("10.0.0.0/24")) == ip_interface(
        "10.0.0.7/24"
    )
    assert with_prefix(ip_address("fd00::7"), ip_network("fd00::/64")) == ip_interface("fd00::7/64")


_SMALL = st.sampled_from(
    [
        "10.0.0.0/28",
        "10.0.0.0/29",
        "10.0.0.0/30",
        "10.0.0.0/31",
        "10.0.0.4/32",
        "fd00::/124",
        "fd00::/127",
        "fd00::/128",
    ]
)


@given(network=_SMALL, data=st.data())
def test_lowest_and_highest_come_from_the_same_addresses(network: str, data: st.DataObject) -> None:
    subnet = ip_network(network)
    everything: list[Address] = list(subnet)
    usable = everything
    if len(everything) > 2:
        usable = everything[1:-1] if subnet.version == 4 else everything[1:]
    served: tuple[tuple[Any, Any], ...] = ()
    if data.draw(st.booleans()):
        low = data.draw(st.integers(0, len(usable) - 1))
        high = data.draw(st.integers(low, len(usable) - 1))
        served = ((usable[low], usable[high]),)
    taken = data.draw(st.sets(st.sampled_from(usable)))
    planned = PlannedSubnet(network=subnet, dhcp_ranges=served)
    given_out = list(pool_of(planned))
    assert given_out == [
        one for one in usable if not any(low <= one <= high for low, high in served)
    ]
    free = [one for one in given_out if one not in taken]
    assert highest_free(planned, taken) == (free[-1] if free else None)


def test_pool_gives_the_lowest_of_its_ranges_first_and_none_of_the_networks_own() -> None:
    subnet = ip_network("10.0.0.0/24")
    pool = (
        (ip_address("10.0.0.250"), ip_address("10.0.0.255")),
        (ip_address("10.0.0.0"), ip_address("10.0.0.2")),
    )
    numbers = [int(one) & 255 for one in pool_of(PlannedSubnet(network=subnet, pool=pool))]
    assert numbers == [1, 2, 250, 251, 252, 253, 254]


def test_machine_is_given_what_it_does_not_ask_for() -> None:
    addressing = PlannedAddressing(
        network=ip_network("10.0.0.0/24"),
        address=ip_interface("10.0.0.7/24"),
        secondary_addresses=(PlannedSecondary(address=ip_interface("10.0.0.8/24")),),
    )
    assert addressing.configured == (ip_interface("10.0.0.7/24"), ip_interface("10.0.0.8/24"))
    assert not addressing.asks
    for other in (replace(addressing, dhcp=True), replace(addressing, slaac=True)):
        assert other.asks
        assert other.configured == (ip_interface("10.0.0.8/24"),)
    assert PlannedAddressing(network=ip_network("10.0.0.0/24")).configured == ()
