"""A plan as Mermaid."""

from __future__ import annotations

import re
from html import escape

from pytest_carthage.planning.plan import Plan
from pytest_carthage.report.drawing.labels import (
    address_of,
    leading,
    remarks_on,
    subnets_of,
    traits_of,
)

__all__ = ["mermaid"]


def mermaid(plan: Plan) -> str:
    """A Mermaid flow chart, which code forges draw in Markdown."""
    lines = ["flowchart TB"]
    for network in plan.networks.values():
        label = _quoted(network.name, subnets_of(network))
        lines.append(f"    {_node('network', network.name)}([{label}])")
    for machine in plan.machines.values():
        traits = [trait for trait in traits_of(machine)[1:3] if trait != "-"]
        label = _quoted(f"<b>{escape(machine.name)}</b>", escape(" · ".join(traits)))
        lines.append(f"    {_node('machine', machine.name)}[{label}]")
    for machine in plan.machines.values():
        for link in leading(machine):
            label = _quoted(" ".join([link.interface, address_of(link), *remarks_on(link)]))
            ends = _node("network", link.network), _node("machine", machine.name)
            lines.append(f"    {ends[0]} ---|{label}| {ends[1]}")
    lines.append("    classDef network fill:#dbeafe,stroke:#2563eb,color:#1e3a8a")
    if plan.networks:
        names = ",".join(_node("network", name) for name in plan.networks)
        lines.append(f"    class {names} network")
    return "\n".join(lines) + "\n"


def _node(kind: str, name: str) -> str:
    """An identifier that Mermaid takes, different for different names."""
    return f"{kind}_" + re.sub(r"[^A-Za-z0-9]", lambda sign: f"_{ord(sign[0]):x}_", name)


def _quoted(*lines: str) -> str:
    return '"' + "<br/>".join(line.replace('"', "#quot;") for line in lines if line) + '"'
