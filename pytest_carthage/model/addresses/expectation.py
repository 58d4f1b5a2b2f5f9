"""Addresses that a machine sets by itself, of which the layout only knows."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv6Address,
    IPv6Interface,
    ip_interface,
)
from typing import Any, TypeAlias

from pytest_carthage.model.addresses.ipconfig import Address, V4Config, V6Config
from pytest_carthage.model.addresses.resolution import Interface, WrongValue

__all__ = ["Expected", "expected"]

#: with its prefix length or without: then it is its network's
Expected: TypeAlias = str | Address | Interface


def expected(given: object, wrong_values: list[WrongValue]) -> dict[int, Any]:
    """The configuration of a link in each family: what is expected, and nothing that is given.

    :param wrong_values: gets what is no address, or one too many.
    """
    configs: dict[int, Any] = {4: None, 6: None}
    values = given if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
    for value in values:
        parsed = _parse(value)
        if parsed is None:
            wrong_values.append(
                WrongValue(f"expects={value!r} is no address", 'expects="10.0.0.1/24"')
            )
            continue
        version, values_of = parsed
        if configs[version] is not None:
            wrong_values.append(
                WrongValue(
                    f"expects has a second address of IPv{version}, {str(value)!r}",
                    "the one that others are to know it by",
                )
            )
        elif version == 4:
            configs[4] = V4Config(**values_of, gateway=False, dhcp=False)
        else:
            configs[6] = V6Config(**values_of, gateway=False, dhcp=False, slaac=False)
    return configs


def _parse(value: object) -> tuple[int, dict[str, Any]] | None:
    """Its family, and the values that a configuration has of it; None: it is no address."""
    if isinstance(value, str) and "/" in value:
        try:
            value = ip_interface(value)
        except ValueError:
            return None
    if isinstance(value, IPv4Interface | IPv6Interface):
        return value.version, {"network": value.network, "address": value.ip}
    if isinstance(value, IPv4Address | IPv6Address):
        return value.version, {"address": value}
    if isinstance(value, str) and value:
        return 6 if ":" in value else 4, {"address": value}
    return None
