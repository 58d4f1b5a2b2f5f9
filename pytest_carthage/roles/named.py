"""Names in a role's arguments, looked up in the plan that the role has come into."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_carthage.errors import LayoutError

if TYPE_CHECKING:
    from collections.abc import Collection

    from pytest_carthage.planning.plan import Plan, PlannedMachine

__all__ = ["check_named"]


def check_named(
    plan: Plan,
    machine: PlannedMachine,
    argument: str,
    names: Collection[str],
    known: Collection[str],
) -> None:
    """Refuse names that there are not.

    :param argument: as in ``"DhcpServer(networks=...)"``.
    :raises LayoutError: with those that there are.
    """
    wrong = [name for name in names if name not in known]
    if wrong:
        raise LayoutError(
            f"machine {machine.name!r} of layout {plan.layout!r}: {argument} names "
            f"{', '.join(map(repr, wrong))}, which it does not have; "
            f"try: one of {', '.join(known) or 'none'}"
        )
