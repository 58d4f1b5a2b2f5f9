"""Address translation in a machine's network namespace, by nftables (nft(8)).

A router hides what leaves by an interface behind its own address there (masquerade), and hands
on what is asked for at a port of an interface to another machine (forward). One call of ``nft``
loads both.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

Spec = Mapping[str, Any]

_FAMILIES = {4: "ipv4", 6: "ipv6"}


def rules(spec: Spec) -> str:
    """The nftables ruleset of a machine."""
    forwards = "\n".join(f"        {_forward(one)}" for one in spec.get("forwards", ()))
    hides = "\n".join(f"        {rule}" for link in spec["links"] for rule in _masquerades(link))
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


def _forward(forward: Mapping[str, Any]) -> str:
    to = forward["to"]
    version, family, target = (6, "ip6", f"[{to}]") if ":" in to else (4, "ip", to)
    # what only passes this router is not asked of it, whatever its port
    return (
        f'iifname "{forward["interface"]}" fib daddr type local '
        f"meta nfproto {_FAMILIES[version]} {forward['protocol']} dport {forward['port']} "
        f"dnat {family} to {target}:{forward['to_port']}"
    )


def _masquerades(link: Mapping[str, Any]) -> Iterator[str]:
    """Rules of one link, whose ``masquerade`` is true, or a list of IP versions."""
    versions = link.get("masquerade") or ()
    if versions is True:
        yield f'oifname "{link["interface"]}" masquerade'
        return
    for version in versions:
        yield f'oifname "{link["interface"]}" meta nfproto {_FAMILIES[version]} masquerade'


def load(spec: Spec) -> None:
    """Load a machine's rules into the network namespace that the caller is in.

    :raises OSError: there is no nft, or it refused the rules.
    """
    done = subprocess.run(
        ["nft", "-f", "-"],
        input=rules(spec).encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    if done.returncode:
        raise OSError(f"nft: {done.stdout.decode(errors='replace').strip()}")
