"""Bad and pulled cables."""

from __future__ import annotations

import zlib
from typing import Any, Literal

from pytest_carthage.live.faults.cables import CabledLink, cables_of, neighbours_of, ports_of
from pytest_carthage.live.faults.impairment import Impairment
from pytest_carthage.live.faults.registry import Fault, Faults

__all__ = ["Direction", "down", "impair"]

Direction = Literal["both", "to", "from"]


def _who(link: CabledLink) -> str:
    return f"link {link.machine.name}.{link.planned.interface}"


def _check_cable(faults: Faults, link: CabledLink) -> None:
    if link.planned.kind == "external":
        raise ValueError(
            f"{_who(link)} of layout {faults.layout!r}: it is on network "
            f"{link.planned.network!r}, which is external: its cable is nobody's here; "
            "try: links of machines that are on networks of the layout"
        )
    if not cables_of(link.planned):
        over = " or ".join(f"link {name!r}" for name in link.planned.over)
        raise ValueError(
            f"{_who(link)} of layout {faults.layout!r}: a link of kind "
            f"{link.planned.kind!r} has no cable of its own; "
            f"try: {over or 'the links of the machines at its other ends'}"
        )


def impair(
    faults: Faults, link: CabledLink, impairment: Impairment, direction: Direction = "both"
) -> Fault:
    """Make a link bad, seen from its machine: what goes ``to`` it, comes ``from`` it, or both."""
    if direction not in ("both", "to", "from"):
        raise ValueError(f"{_who(link)}: direction={direction!r}; try: 'both', 'to' or 'from'")
    _check_cable(faults, link)
    name, interface = link.machine.name, link.planned.interface
    ways = ("to", "from") if direction == "both" else (direction,)
    where = {"both": "", "to": " to it", "from": " from it"}[direction]
    subject = f"{_who(link)} {impairment}{where}"
    seed = zlib.crc32(subject.encode())
    network = faults.knows.plan.networks.get(link.planned.network)
    is_wire = network is not None and network.kind == "point-to-point"

    async def ask() -> dict[str, Any]:
        return await faults.ask(
            kind="impair",
            machine=name,
            cables=[
                {"port": port, "bridge": bridge, "wire": is_wire}
                for port, bridge in cables_of(link.planned)
            ],
            ways={way: impairment.spec(seed + number) for number, way in enumerate(ways)},
        )

    keys = {("impair", name, interface, way) for way in ways}
    return faults.opening("impair", subject, keys, ask, who=_who(link))


def down(faults: Faults, link: CabledLink) -> Fault:
    """Pull a link's cable: no carrier, neither here nor at the other end of a wire."""
    _check_cable(faults, link)
    name, ports = link.machine.name, list(ports_of(link.planned))

    async def ask() -> dict[str, Any]:
        plan = faults.knows.plan
        answer = await faults.ask(
            kind="down",
            machine=name,
            ports=ports,
            neighbours=neighbours_of(plan, plan.machines, link.planned.network),
        )
        try:
            await link.machine.signal(ports, present=False)
        except BaseException:
            await faults.heal(answer["number"])
            raise
        return answer

    async def undo(answer: dict[str, Any]) -> None:
        await faults.heal(answer["number"])
        if not faults.reaches.closed:
            await link.machine.signal(ports, present=True)

    keys = {("down", name, link.planned.interface)}
    subject = f"{_who(link)} down"
    return faults.opening("down", subject, keys, ask, who=_who(link), undo=undo)
