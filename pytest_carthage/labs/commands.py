"""Commands by which a lab's machines configure their network, and what they come to.

``ip address add 10.0.0.1/24 dev eth1`` says what a link's address is: declared, the layout knows
it, other machines have a name for it, and it is there before the machine is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface, ip_network

__all__ = ["Configured", "configured"]

Interface = IPv4Interface | IPv6Interface

_NOT_PLAIN = re.compile(r"[;&|<>$`(){}*?\\'\"#]")
_ADDRESS = re.compile(
    r"ip (?:-[46] )?a(?:ddr(?:ess)?)? (?:a|add|replace) (?:(?:dev )?(?P<first>\S+) )??"
    r"(?P<address>[0-9a-fA-F.:]+/[0-9]+)(?: (?:brd|broadcast) \S+)?(?: dev (?P<last>\S+))?"
)
_ROUTE = re.compile(
    r"ip (?:-[46] )?r(?:oute)? (?:a|add|replace) (?P<to>default|[0-9a-fA-F.:]+/[0-9]+)"
    r" via (?P<via>[0-9a-fA-F.:]+)(?: dev (?P<dev>\S+))?"
)
_UP = re.compile(r"ip link set (?:dev )?(?P<dev>\S+) up")
_IFCONFIG = re.compile(r"ifconfig (?P<dev>\S+) (?P<address>[0-9.]+/[0-9]+)(?: up)?")


@dataclass(slots=True, kw_only=True)
class Configured:
    """What a machine's commands come to."""

    #: interface to its addresses, one of each family at most
    addresses: dict[str, list[Interface]] = field(default_factory=dict)
    #: next hop of the default route
    gateways: list[str] = field(default_factory=list)
    #: destination to next hop
    routes: dict[str, str] = field(default_factory=dict)
    #: the other commands, in their order, and for each declaration the command that it was
    rest: list[str] = field(default_factory=list)
    origin: dict[Interface | str, str] = field(default_factory=dict)


def configured(commands: list[str], interfaces: set[str]) -> Configured:
    """Tell declarations from what remains a command.

    :param interfaces: of the machine's links.
    """
    made = Configured()
    for command in commands:
        line = " ".join(command.split())
        if _NOT_PLAIN.search(line) or not _taken(line, made, interfaces):
            made.rest.append(command)
    return made


def _taken(line: str, made: Configured, interfaces: set[str]) -> bool:
    if match := _UP.fullmatch(line):
        return match["dev"] in interfaces  # all links are up
    if match := _ADDRESS.fullmatch(line):
        return _take_address(
            match["address"], match["first"] or match["last"], made, interfaces, line
        )
    if match := _IFCONFIG.fullmatch(line):
        return _take_address(match["address"], match["dev"], made, interfaces, line)
    if match := _ROUTE.fullmatch(line):
        return _take_route(match["to"], match["via"], made, line)
    return False


def _take_address(
    text: str, interface: str | None, made: Configured, interfaces: set[str], line: str
) -> bool:
    if interface not in interfaces:
        return False
    try:
        address = ip_interface(text)
    except ValueError:
        return False
    having = made.addresses.setdefault(interface, [])
    subnet = address.network
    is_of_a_host = subnet.num_addresses > 2 and address.ip != subnet.network_address
    if address.version == 4 and address.ip == subnet.broadcast_address:
        is_of_a_host = False
    if not is_of_a_host or any(other.version == address.version for other in having):
        return False
    having.append(address)
    made.origin[address] = line
    return True


def _take_route(to: str, via: str, made: Configured, line: str) -> bool:
    try:
        ip_address(via)
        destination = to if to == "default" else str(ip_network(to))
    except ValueError:
        return False
    if destination == "default":
        if any(ip_address(one).version == ip_address(via).version for one in made.gateways):
            return False
        made.gateways.append(via)
    elif destination in made.routes:
        return False
    else:
        made.routes[destination] = via
    made.origin[f"{destination} {via}"] = line
    return True
