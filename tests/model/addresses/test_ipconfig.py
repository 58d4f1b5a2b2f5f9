"""What a network or a link has in one family: what is inherited, and from whom."""

from __future__ import annotations

from dataclasses import fields, replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from pytest_carthage import V4Config, V6Config
from pytest_carthage.model.addresses.ipconfig import LinkContext
from pytest_carthage.model.addresses.resolution import WrongValue, compute

#: a value for every field of IPv6, and another one
VALUES: dict[str, tuple[Any, Any]] = {
    "network": ("fd00::/64", "fd01::/64"),
    "address": ("::1", "::2"),
    "gateway": ("::1", False),
    "dhcp": (True, False),
    "dhcp_ranges": ([("::1", "::2")], []),
    "pool": ("fd00::/65", [("::1", "::2")]),
    "secondary_addresses": (["::3"], []),
    "public_address": ("2001:db8::1", "2001:db8::2"),
    "dns_servers": (["fd00::53"], []),
    "domains": (["a.example"], []),
    "metric": (100, 0),
    "masquerade": (True, False),
    "external_addresses": (["::9"], []),
    "slaac": (True, False),
}
CONTEXT = LinkContext(
    layout="Shop",
    machine="web",
    hostname="www",
    interface="eth0",
    network="lan",
    subnet=ip_network("10.0.0.0/24"),
    mac="02:00:00:00:00:01",
)


def test_values_are_of_every_field() -> None:
    assert {*VALUES, "place"} == {one.name for one in fields(V6Config)}
    assert {one.name for one in fields(V4Config)} == {*VALUES, "place"} - {"slaac"}
    assert (V4Config.version, V6Config.version) == (4, 6)


@pytest.mark.parametrize("name", VALUES)
def test_what_is_not_set_is_inherited_and_what_is_set_goes_first(name: str) -> None:
    value, other = VALUES[name]
    inherited = V6Config(**{name: value})
    assert getattr(V6Config().over(inherited), name) == value
    # False, 0 and an empty list are something that is said
    assert getattr(V6Config(**{name: other}).over(inherited), name) == other
    assert getattr(V6Config(**{name: value}).over(V6Config(**{name: other})), name) == value
    assert getattr(V6Config().over(V6Config()), name) is None


def test_everything_is_inherited_at_once_and_the_place_is_the_links_own() -> None:
    inherited = V6Config(**{name: value for name, (value, _) in VALUES.items()})
    own = V6Config(metric=7)
    merged = own.over(inherited)
    assert replace(merged, metric=100) == inherited
    assert merged.place == own.place
    assert merged.metric == 7


def test_configuration_that_inherits_nothing_is_itself() -> None:
    own = V4Config(metric=7)
    assert own.over(None) is own


def test_configuration_shows_what_is_set_alone() -> None:
    assert repr(V4Config()) == "V4Config()"
    assert repr(V4Config(network="10.0.0.0/24", gateway=False, metric=0)) == (
        "V4Config(network='10.0.0.0/24', gateway=False, metric=0)"
    )
    assert repr(V6Config(slaac=True)) == "V6Config(slaac=True)"


def test_configurations_are_equal_wherever_they_are_written() -> None:
    first = V4Config(metric=1)
    second = V4Config(metric=1)
    assert first == second
    assert first.place != second.place


@pytest.mark.parametrize("name", VALUES)
def test_every_value_may_be_a_function_of_the_link(name: str) -> None:
    value, _ = VALUES[name]
    contexts: list[LinkContext] = []

    def given(context: LinkContext) -> Any:
        contexts.append(context)
        return value

    def fails(_: LinkContext) -> Any:
        raise ZeroDivisionError("division by zero")

    functions: dict[str, Any] = {name: given}
    assert getattr(compute(V6Config(**functions), CONTEXT), name) == value
    assert contexts == [CONTEXT]
    with pytest.raises(WrongValue) as caught:
        compute(V6Config(**{**functions, name: fails}), CONTEXT)
    assert str(caught.value).startswith(
        f"the function for {name} failed: ZeroDivisionError: division by zero (at {__file__}:"
    )
    assert caught.value.remedy == f"a function of a LinkContext that gives the {name}"
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_configuration_without_functions_is_left_as_it_is() -> None:
    config = V4Config(address=ip_address("10.0.0.1"))
    assert compute(config, CONTEXT) is config
