"""A plan for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_carthage.planning.plan import Plan, PlannedNetwork
from pytest_carthage.report.drawing.labels import address_of, remarks_on, subnets_of, traits_of

__all__ = ["text"]


def text(plan: Plan) -> str:
    """For a terminal: each network with what is linked to it, then the machines."""
    lines = [plan.layout]
    for network in plan.networks.values():
        lines += ["", f"{network.name}  {subnets_of(network)}", *_tree(_linked(plan, network))]
    if plan.machines:
        lines += [
            "",
            "machines",
            *_tree([traits_of(machine) for machine in plan.machines.values()]),
        ]
    return "\n".join(lines) + "\n"


def _linked(plan: Plan, network: PlannedNetwork) -> list[list[str]]:
    return [
        [machine.name, link.interface, address_of(link), *remarks_on(link)]
        for machine in plan.machines.values()
        for link in machine.links
        if link.network == network.name
    ]


def _tree(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The rows as branches, their columns aligned."""
    widths = [
        max(len(row[column]) for row in rows if column < len(row))
        for column in range(max(map(len, rows), default=0))
    ]
    for number, row in enumerate(rows):
        branch = "└──" if number == len(rows) - 1 else "├──"
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        yield f"{branch} {'  '.join(cells)}".rstrip()
