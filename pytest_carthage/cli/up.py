"""``pytest-carthage up LAYOUT``: build a layout without tests; it stays up."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from pytest_carthage.cli import reference, staging
from pytest_carthage.cli.listing import record
from pytest_carthage.cli.output import add_json, print_json
from pytest_carthage.cli.policy import add_policy, policy
from pytest_carthage.cli.progress import showing
from pytest_carthage.cli.remains import Remains
from pytest_carthage.cli.usage import Usage
from pytest_carthage.errors import CarthageError, HostError

if TYPE_CHECKING:
    from pytest_carthage.events import Reporter
    from pytest_carthage.images.policy import Policy
    from pytest_carthage.live.environment import AsyncLayout
    from pytest_carthage.live.layout import Layout
    from pytest_carthage.planning.plan import Plan


def add(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "up",
        help="build a layout, and leave it up",
        description="Build a layout without tests. It stays after the command, until it is "
        "removed (pytest-carthage rm) or its time is over.",
    )
    reference.add_layout(parser)
    parser.add_argument("--name", metavar="NAME", help="name of the run (default: a new one)")
    parser.add_argument(
        "--keep-for", metavar="DURATION", default="8h", help="as in 90m, 8h (default) or 2d"
    )
    parser.add_argument(
        "--stages", action="store_true", help="run its stages, too; it stays if one fails"
    )
    parser.add_argument(
        "--until", metavar="STAGE", help="with --stages: this one, and those that it needs"
    )
    staging.add_file(parser)
    add_policy(parser)
    parser.add_argument(
        "--keep-on-fail",
        action="store_true",
        help="keep what does not come up, too, as far as it stands",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Build it, and say how to get in."""
    from pytest_carthage.events import Fanout
    from pytest_carthage.portal import Portal
    from pytest_carthage.reference import names
    from pytest_carthage.reference.durations import duration_s
    from pytest_carthage.report.kept import expiry
    from pytest_carthage.state.listing import find_environment, living_run
    from pytest_carthage.state.timings import Stopwatch, machine_id

    if not arguments.stages and (arguments.until or arguments.file):
        raise Usage("--until and --from are about stages; try: with --stages")
    try:
        keep_for_s = duration_s(arguments.keep_for)
    except ValueError as error:
        raise Usage(f"--keep-for: {error}") from error
    run_name = arguments.name or names.new()
    if complaint := names.complaint(run_name):
        raise Usage(f"--name {run_name}: {complaint}")
    if living_run(run_name) is not None:
        raise Usage(f"--name {run_name}: a run of this name is alive; see: pytest-carthage ls")
    plan = reference.planned(arguments.layout, arguments.target)
    cls = reference.layout(arguments.layout)
    allowed = policy(arguments, cls)
    name = names.environment(run_name, plan.layout)
    stopwatch = Stopwatch()
    for planned in plan.machines.values():
        stopwatch.watch(name, planned.name, name=machine_id(cls, planned))
    portal = Portal()
    remains = Remains(run_name, name, keep_for_s=keep_for_s if arguments.keep_on_fail else 0)
    try:
        with showing(quiet=arguments.quiet) as shown:
            reporter = Fanout([shown, stopwatch])
            portal.call(
                _build,
                plan,
                cls,
                allowed,
                run_name,
                name,
                portal,
                reporter,
                keep_for_s,
                arguments.target,
                remains,
            )
        stopwatch.save()
    except HostError:
        raise  # nothing was built
    except CarthageError as error:
        raise remains.explained(error) from error
    finally:
        portal.close()
    status = 0
    if arguments.stages:
        status = staging.run_stages(
            find_environment(name),
            only=arguments.until or "",
            file=arguments.file,
            quiet=arguments.quiet,
            output=sys.stderr,  # as progress: our own output may be for a program
        )
    built = find_environment(name)
    if arguments.json:
        print_json(record(built))
        return status
    print(f"{name}: {expiry(kept=built.kept, expires_at=built.expires_at)}")
    for machine, values in built.machines.items():
        addresses = ", ".join(f"{name} {address}" for name, address in values["addresses"].items())
        print(f"  {machine}: {addresses or 'no address'}")
    first = next(iter(built.machines), "MACHINE")
    print(f"get in:  pytest-carthage shell {name}/{first}")
    print(f"remove:  pytest-carthage rm {name}")
    return status


async def _build(
    plan: Plan,
    layout: type[Layout],
    policy: Policy,
    run_name: str,
    name: str,
    portal: Any,
    reporter: Reporter,
    keep_for_s: float,
    target: str | None,
    remains: Remains,
) -> None:
    from pytest_carthage.events import Work
    from pytest_carthage.images.preflight import check_layout
    from pytest_carthage.live import ledger
    from pytest_carthage.live.environment import AsyncLayout
    from pytest_carthage.state.run import Run

    def note(subject: str, text: str) -> None:
        Work(reporter, subject, environment=name).note(text)

    await check_layout(layout, plan, policy, note=note)
    run = await Run.join(run_name)
    try:
        environment: AsyncLayout = await AsyncLayout.build(
            plan,
            name=name,
            run=run,
            providers=reference.providers(),
            portal=portal,
            reporter=reporter,
            subscribers=layout.subscribers,
            policy=policy,
            autopsy=remains.look,
        )
        ledger.begin(environment.folder, layout, plan, target=target)
        await environment.keep(for_s=keep_for_s)
    finally:
        await run.leave()
