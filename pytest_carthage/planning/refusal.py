"""The refusal of what a machine's target cannot do, in the same words before and after it lives."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_carthage.errors import UnsupportedError
from pytest_carthage.handles.capability import CAPABILITIES, Capability
from pytest_carthage.model.mistakes.place import Place
from pytest_carthage.planning.plan import Plan
from pytest_carthage.planning.targets import others
from pytest_carthage.planning.uses import Use, is_ruled_out

__all__ = ["refusal", "refusal_of"]


def refusal(
    plan: Plan,
    machine: str,
    capability: Capability,
    use: str,
    place: Place | None = None,
    remedy: str = "",
) -> UnsupportedError:
    """The error of a machine that is asked for what it cannot do.

    :param use: what asks for it, as in ``web.freeze()``.
    :param place: where in the author's code, if that is known.
    :param remedy: how it can be had on the machine's own target; empty: it cannot.
    """
    planned = plan.machines[machine]
    where = f"is used in {place}" if place is not None else "asks for that"
    as_declared = " that are declared as this one" if remedy else ""
    remedy = remedy or others(plan.targets, capability, has_image=planned.image is not None)
    return UnsupportedError(
        f"machine {machine!r} of layout {plan.layout!r}: target {planned.target!r} cannot "
        f"{CAPABILITIES[capability]}{as_declared}; {use} {where}; try: {remedy}"
    )


def refusal_of(plan: Plan, uses: Iterable[Use]) -> UnsupportedError | None:
    """The error of the first call that a machine's target rules out; None: there is none."""
    for use in uses:
        if is_ruled_out(plan.machines[use.machine].traits, use):
            return refusal(plan, use.machine, use.capability, use.call, use.place)
    return None
