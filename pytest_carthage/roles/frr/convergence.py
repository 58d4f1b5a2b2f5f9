"""Whether FRR's protocols have come to rest, by what its daemons say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pytest_carthage.errors import CarthageError
from pytest_carthage.model.machine import Condition
from pytest_carthage.roles.bird import OspfRouter
from pytest_carthage.roles.frr.router import FrrRouter
from pytest_carthage.roles.frr.survey import Survey, survey

if TYPE_CHECKING:
    from pytest_carthage.roles.served import Served

__all__ = ["converged"]


def converged() -> Condition:
    """The routing daemons of an :class:`FrrRouter` have told their neighbours all, and heard all.

    OSPF, OSPFv3 and IS-IS have a full adjacency to each other FRR router of the layout that speaks
    the protocol on a common network, and nothing more to flood or to compute; BGP's sessions are
    established, and their first routes have come; each route that was chosen is in the kernel, and
    a second look finds the same ones.
    What is behind a link that is down is not waited for. RIP never says that it is done.

    Give it to ``machine.wait_for``, in a stage or a test.
    """
    return Condition("asked", "convergence of FRR", ask=_Looks())


class _Looks:
    """Looks at machines again and again: at rest is only what the next look finds as it was.

    Between what a neighbour has told and what is chosen there is work of which nobody tells, as
    finding the way to a next hop.
    """

    def __init__(self) -> None:
        #: machine to the routes of the last look, where nothing else was to come
        self._seen: dict[str, frozenset[tuple[str, ...]]] = {}

    async def __call__(self, machine: Served) -> str:
        own = await survey(machine)
        missing = await _unsettled(machine, own)
        before = self._seen.pop(machine.name, None)
        if missing or before == own.routes:
            return missing
        self._seen[machine.name] = own.routes
        return "its routes have just changed" if before is not None else "it was looked at once"


async def _unsettled(machine: Served, own: Survey) -> str:
    """What is still to come; empty: nothing."""
    others: dict[str, Survey | None] = {}
    for protocol in own.protocols.values():
        for interface in sorted(protocol.active):
            for name, _ in _ends(machine, interface):
                if name not in others:
                    others[name] = await _survey_of(machine, name)
    missing = [*own.pending, *_missing(machine, own, others)]
    return "; ".join(missing[:3]) + (f"; and {len(missing) - 3} more" if len(missing) > 3 else "")


async def _survey_of(machine: Served, name: str) -> Survey | None:
    """What another router says; None: it runs no FRR, or does not run."""
    try:
        other = machine.surroundings.handle(name)
        if any(isinstance(role, FrrRouter) for role in other.planned.roles):
            return await survey(other)
    except (CarthageError, KeyError):
        pass
    return None


def _missing(machine: Served, own: Survey, others: Mapping[str, Survey | None]) -> Iterator[str]:
    for label, protocol in own.protocols.items():
        yield from protocol.pending
        for interface in sorted(protocol.active):
            ends = _ends(machine, interface)
            expected = [name for name, end in ends if _is_active(others.get(name), label, end)]
            settled = protocol.settled.get(interface, 0)
            if settled < len(expected):
                yield (
                    f"{label} on {interface}: {settled} of {len(expected)} neighbours"
                    f" ({', '.join(expected)})"
                )
            elif settled > len(expected) and not _has_strangers(machine, interface):
                yield f"{label} on {interface}: a neighbour that is gone is not given up yet"


def _is_active(other: Survey | None, label: str, interface: str) -> bool:
    if other is None:
        return False
    protocol = other.protocols.get(label)
    return protocol is not None and interface in protocol.active


def _ends(machine: Served, interface: str) -> tuple[tuple[str, str], ...]:
    try:
        return machine.surroundings.plan.other_ends(machine.name, interface)
    except KeyError:
        return ()  # made by the machine itself


def _has_strangers(machine: Served, interface: str) -> bool:
    """Whether others may speak a protocol there that are not asked."""
    plan = machine.surroundings.plan
    ends = [plan.machines[name] for name, _ in _ends(machine, interface)]
    return not ends or any(isinstance(role, OspfRouter) for one in ends for role in one.roles)
