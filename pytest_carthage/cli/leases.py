"""``pytest-carthage leases LAYOUT``: whose the hosts of a layout are that exist."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING, Any

from pytest_carthage.cli import reference
from pytest_carthage.cli.usage import Usage
from pytest_carthage.errors import CarthageError
from pytest_carthage.provider import Lends

if TYPE_CHECKING:
    from pytest_carthage.planning.plan import Plan, PlannedMachine


def add(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "leases",
        help="tell whose the hosts of a layout are that exist",
        description="Ask each host of a layout that exists, as those of target ssh, who uses it, "
        "and whether it is marked as not restored. With --break the lease, or the mark, of one is "
        "taken away, whoever's it is: a run that uses the host does nothing more there.",
    )
    reference.add_layout(parser)
    parser.add_argument("--break", dest="machine", metavar="MACHINE", help="whose lease is broken")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print them, or break one."""
    plan = reference.planned(arguments.layout, arguments.target)
    lenders = _lenders(plan)
    if arguments.machine is not None:
        if arguments.machine not in lenders:
            having = ", ".join(lenders) or "none"
            raise Usage(
                f"layout {plan.layout!r} has no host {arguments.machine!r} that exists; "
                f"there are: {having}"
            )
        planned, provider = lenders[arguments.machine]
        broken = asyncio.run(provider.break_lease(planned))
        print(f"{planned.name}: {broken or 'it was free'}")
        return 0
    status = 0
    for name, (planned, provider) in lenders.items():
        try:
            said = asyncio.run(provider.lease(planned)) or "free"
        except CarthageError as error:
            said, status = str(error), 1
        print(f"{name}: {said}")
    return status


def _lenders(plan: Plan) -> dict[str, tuple[PlannedMachine, Lends]]:
    providers = reference.providers()
    return {
        name: (planned, provider)
        for name, planned in plan.machines.items()
        if isinstance(provider := providers[planned.target], Lends)
    }
