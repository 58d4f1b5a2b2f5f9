from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_carthage.model.addresses.addressing import locate
from pytest_carthage.model.addresses.ipconfig import AnyNetwork
from pytest_carthage.model.addresses.resolution import PlannedSubnet, pool_of


@pytest.mark.parametrize(
    ("written", "subnet", "meant"),
    [
        (".7", "10.0.0.0/24", "10.0.0.7"),
        (".3.7", "10.0.0.0/16", "10.0.3.7"),
        (".7", "10.0.0.0/16", "10.0.0.7"),
        (".130", "10.0.0.128/25", "10.0.0.130"),
        (".6.5", "10.0.4.0/22", "10.0.6.5"),
        ("10.0.0.7", "10.0.0.0/24", "10.0.0.7"),
        ("::7", "fd00:1::/64", "fd00:1::7"),
        ("fd00:1::7", "fd00:1::/64", "fd00:1::7"),
        ("10.0.0.0", "10.0.0.0/31", "10.0.0.0"),
        ("10.0.0.1", "10.0.0.0/31", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.1/32", "10.0.0.1"),
        ("fd00::ffff:ffff:ffff:ffff", "fd00::/64", "fd00::ffff:ffff:ffff:ffff"),
    ],
)
def test_locate_what_can_be_an_address_finds_it(written: str, subnet: str, meant: str) -> None:
    assert locate(written, ip_network(subnet)) == ip_address(meant)
    assert locate(ip_address(meant), ip_network(subnet)) == ip_address(meant)


@pytest.mark.parametrize(
    ("written", "subnet", "why"),
    [
        (".0", "10.0.0.0/24", "is the network's own address in"),
        (".255", "10.0.0.0/24", "is the broadcast address of"),
        (".1", "10.0.0.128/25", "is outside"),
        ("::", "fd00::/64", "is the network's own address in"),
        ("::1:0:0:0:1", "fd00::/64", "is outside"),
        (".1", "fd00::/64", "is not an address in"),
        ("::1", "10.0.0.0/24", "is outside"),
        ("10.0.0.1/24", "10.0.0.0/24", "is not an address in"),
        (".", "10.0.0.0/24", "is not an address in"),
        (".-1", "10.0.0.0/24", "is not an address in"),
        ("", "10.0.0.0/24", "is not an address in"),
    ],
)
def test_locate_what_cannot_be_an_address_says_why(written: str, subnet: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{why}$"):
        locate(written, ip_network(subnet))


subnets = st.one_of(
    st.builds(
        lambda number, length: IPv4Network((number, length), strict=False),
        st.integers(0, 2**32 - 1),
        st.integers(0, 32),
    ),
    st.builds(
        lambda number, length: IPv6Network((number, length), strict=False),
        st.integers(0, 2**128 - 1),
        st.integers(0, 128),
    ),
)


@given(subnet=subnets, count=st.integers(0, 6))
def test_pool_of_a_subnet_gives_the_lowest_usable_ones_in_order(
    subnet: AnyNetwork, count: int
) -> None:
    unusable = {4: 2, 6: 1}[subnet.version] if subnet.num_addresses > 2 else 0
    found = list(islice(pool_of(PlannedSubnet(network=subnet)), count))
    assert len(found) == min(count, subnet.num_addresses - unusable)
    assert found == sorted(set(found), key=int)
    for address in found:
        assert locate(address, subnet) == address


def test_pool_leaves_out_what_a_server_gives() -> None:
    network = IPv4Network("10.0.0.0/28")
    pair = (network[3], network[12])
    assert list(pool_of(PlannedSubnet(network=network, dhcp_ranges=(pair,)))) == [
        network[1],
        network[2],
        network[13],
        network[14],
    ]


@given(subnet=subnets, text=st.text(max_size=12))
def test_locate_of_any_text_is_an_address_of_the_subnet_or_a_value_error(
    subnet: AnyNetwork, text: str
) -> None:
    try:
        found = locate(text, subnet)
    except ValueError as error:
        said = str(error)
    else:
        assert found in subnet
        return
    assert said.startswith("is ")
