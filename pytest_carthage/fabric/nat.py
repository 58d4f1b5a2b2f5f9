"""Address translation in a machine's network namespace, by nftables (nft(8)).

A router hides what leaves by an interface behind its own address there (masquerade), and hands
on what is asked for at a port of an interface to another machine (forward), also by those inside
("hairpin", RFC 4787, section 6). One ruleset has all that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_carthage.fabric.spec import ForwardSpec, LinkSpec, MachineSpec

_FAMILIES = {4: "ipv4", 6: "ipv6"}


def rules(spec: MachineSpec) -> str:
    """The nftables ruleset of a machine."""
    pairs = [(one, _addresses(spec, one)) for one in spec["forwards"]]
    forwards = "\n".join(f"        {rule}" for pair in pairs for rule in _forward(*pair))
    hiding = [rule for link in spec["links"] for rule in _masquerades(link)]
    hiding += [rule for pair in pairs for rule in _hairpin(*pair)]
    hides = "\n".join(f"        {rule}" for rule in hiding)
    return (
        "table inet carthage {\n"
        "    chain prerouting {\n"
        "        type nat hook prerouting priority dstnat; policy accept;\n"
        f"{forwards}\n"
        "    }\n"
        "    chain postrouting {\n"
        "        type nat hook postrouting priority srcnat; policy accept;\n"
        f"{hides}\n"
        "    }\n"
        "}\n"
    )


def _addresses(spec: MachineSpec, forward: ForwardSpec) -> list[str]:
    """Planned addresses of the interface that is asked, of the family of who answers."""
    return [
        address.partition("/")[0]
        for link in spec["links"]
        for address in link["addresses"]
        if link["interface"] == forward["interface"] and (":" in address) == (":" in forward["to"])
    ]


def _forward(forward: ForwardSpec, addresses: list[str]) -> Iterator[str]:
    """Rules of what is asked from outside, and from inside."""
    to, interface = forward["to"], forward["interface"]
    version, family, target = (6, "ip6", f"[{to}]") if ":" in to else (4, "ip", to)
    port = f"{forward['protocol']} dport {forward['port']}"
    leads = f"dnat {family} to {target}:{forward['to_port']}"
    # what only passes this router is not asked of it, whatever its port
    yield (
        f'iifname "{interface}" fib daddr type local '
        f"meta nfproto {_FAMILIES[version]} {port} {leads}"
    )
    for address in addresses:
        yield f'iifname != "{interface}" {family} daddr {address} {port} {leads}'


def _hairpin(forward: ForwardSpec, addresses: list[str]) -> Iterator[str]:
    """Rules by which who is asked from inside answers by this router, and not past it."""
    family = "ip6" if ":" in forward["to"] else "ip"
    for address in addresses:
        yield (
            f'iifname != "{forward["interface"]}" ct status dnat '
            f"ct original {family} daddr {address} {family} daddr {forward['to']} masquerade"
        )


def _masquerades(link: LinkSpec) -> Iterator[str]:
    """Rules of one link."""
    for version in link["masquerade"]:
        yield f'oifname "{link["interface"]}" meta nfproto {_FAMILIES[version]} masquerade'


def is_needed(spec: MachineSpec) -> bool:
    """Whether a machine translates anything."""
    return bool(spec["forwards"]) or any(link["masquerade"] for link in spec["links"])
