"""Addresses: from what an author wrote to what a machine gets."""

from __future__ import annotations

from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    ip_address,
)

from pytest_carthage.model.addresses.ipconfig import Address, AnyNetwork

__all__ = ["locate"]


def locate(written: str | Address, subnet: AnyNetwork) -> Address:
    """The address meant by ``written`` in this subnet.

    Text that starts with a dot tells how an IPv4 address ends: ``".7"`` in 10.0.0.0/24 is
    10.0.0.7, ``".3.7"`` in 10.0.0.0/16 is 10.0.3.7. For IPv6, ``"::7"`` does the same.

    :raises ValueError: it is no address, or none that a machine can have there; says why.
    """
    address = _read(written, subnet)
    if address.version != subnet.version or address not in subnet:
        raise ValueError("is outside")
    if subnet.num_addresses > 2:
        if address == subnet.network_address:
            raise ValueError("is the network's own address in")
        if isinstance(subnet, IPv4Network) and address == subnet.broadcast_address:
            raise ValueError("is the broadcast address of")
    return address


def _read(written: str | Address, subnet: AnyNetwork) -> Address:
    if isinstance(written, IPv4Interface | IPv6Interface):
        if written.network != subnet:  # it has a prefix length of its own
            raise ValueError("is outside")
        return written.ip
    if isinstance(written, IPv4Address | IPv6Address):
        return written
    try:
        if written.startswith("."):
            if not isinstance(subnet, IPv4Network):
                raise ValueError
            ending = written[1:].split(".")
            start = str(subnet.network_address).split(".")[: max(4 - len(ending), 0)]
            return ip_address(".".join([*start, *ending]))
        address = ip_address(written)
    except ValueError:
        raise ValueError("is not an address in") from None
    if isinstance(address, IPv6Address) and isinstance(subnet.network_address, IPv6Address):
        host_bits = int(subnet.hostmask)
        if written.startswith("::") and int(address) & ~host_bits == 0:
            return IPv6Address(int(subnet.network_address) | int(address))
    return address
