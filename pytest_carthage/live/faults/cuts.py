"""Cuts between groups of machines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeAlias

from pytest_carthage.live.faults.cables import cables_of, neighbours_of
from pytest_carthage.live.faults.registry import Fault, Faults
from pytest_carthage.model.mistakes.place import Place
from pytest_carthage.planning.plan import Plan
from pytest_carthage.planning.refusal import refusal

__all__ = ["Group", "partition"]


class Named(Protocol):
    """A live machine, as either of its handles."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...


#: machines of one side: one, or a set of them, as handles or names
Group: TypeAlias = "str | Named | Iterable[str | Named]"


def _names(plan: Plan, group: Any) -> list[str]:
    members = [group] if isinstance(group, str) or hasattr(group, "planned") else group
    if not isinstance(members, Iterable):
        raise TypeError(f"partition: {group!r} is neither a machine nor a set of machines")
    islands = []
    for member in members:
        name = member if isinstance(member, str) else getattr(member, "name", None)
        if not isinstance(name, str):
            raise TypeError(f"partition: {member!r} is not a machine; try: its handle or its name")
        if name not in plan.machines:
            having = ", ".join(plan.machines)
            raise LookupError(
                f"layout {plan.layout!r} has no machine {name!r}; its machines are: {having}"
            )
        if not plan.machines[name].traits.can("links"):
            raise refusal(plan, name, "links", "partition()", Place.of_author())
        islands.append(name)
    return sorted(dict.fromkeys(islands))


def partition(faults: Faults, *groups: Any) -> Fault:
    """Cut the machines of each group off from those of the others.

    :raises LookupError: there is no such machine.
    :raises UnsupportedError: one is on no network of the layout, since its target cannot.
    :raises ValueError: fewer than two groups, an empty one, or a machine in two of them.
    """
    plan, layout = faults.knows.plan, faults.layout
    sides = [_names(plan, group) for group in groups]
    if len(sides) < 2:
        raise ValueError(
            f"layout {layout!r}: a partition has at least two groups; try: ({{a}}, {{b}})"
        )
    if not all(sides):
        raise ValueError(f"layout {layout!r}: a partition's group is empty")
    side_of: dict[str, int] = {}
    for number, side in enumerate(sides):
        for name in side:
            if name in side_of:
                raise ValueError(
                    f"layout {layout!r}: machine {name!r} is in two groups of a partition"
                )
            side_of[name] = number

    async def ask() -> dict[str, Any]:
        plan = faults.knows.plan
        described = [_described(plan, side) for side in sides]
        together = [name for side in sides for name in side]
        return await faults.ask(
            kind="partition", groups=described, neighbours=neighbours_of(plan, together)
        )

    text = " | ".join(" ".join(side) for side in sides)
    return faults.opening("partition", f"partition {text}", set(), ask, who=f"layout {layout!r}")


def _described(plan: Plan, side: Sequence[str]) -> dict[str, Any]:
    """A group as the fabric takes it."""
    machines = plan.machines
    own = [link for name in side for link in machines[name].links]
    addresses = {str(address.ip) for link in own for address in link.addresses}
    shared: dict[str, list[str]] = {}
    for name, machine in machines.items():
        if name in side:
            continue
        for link in machine.links:
            for address in link.addresses:
                if str(address.ip) in addresses:
                    ports = [port for port, _ in cables_of(link)]
                    shared.setdefault(str(address.ip), []).extend(ports)
    members = [
        {
            "machine": name,
            "ports": [port for link in machines[name].links for port, _ in cables_of(link)],
            "addresses": [str(a.ip) for link in machines[name].links for a in link.addresses],
        }
        for name in side
    ]
    return {"members": members, "shared": shared}
