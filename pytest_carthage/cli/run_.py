"""``pytest-carthage run NAME STAGE|PLAYBOOK``: work on a live environment, again and again."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.cli import plays, staging, target
from pytest_carthage.cli.usage import Usage, similar

if TYPE_CHECKING:
    from pytest_carthage.state.listing import Listed

_PLAYBOOKS = (".yml", ".yaml")


def add(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "run",
        help="run a stage or a playbook in a live environment",
        description="Run one stage of a live environment's layout, as it is written now, also "
        "where it has run already; stages that it needs run where they have not. Or a playbook, "
        "in the layout's networks. The environment stays whatever comes of it.",
        usage="pytest-carthage run [-h] [--from FILE] [-q] NAME STAGE\n"
        "       pytest-carthage run [-h] NAME PLAYBOOK [-- OPTION...]",
    )
    parser.add_argument("environment", metavar="NAME", help="an environment's name")
    parser.add_argument(
        "what", metavar="STAGE|PLAYBOOK", help="a stage's name, or the path of a playbook"
    )
    parser.add_argument(
        "options", metavar="OPTION", nargs="*", help="options of ansible-playbook, after --"
    )
    staging.add_file(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run it; returns its exit status."""
    environment = target.environment(arguments.environment)
    what: str = arguments.what
    if Path(what).suffix in _PLAYBOOKS or Path(what).is_file():
        return _play(environment, what, arguments.options)
    if arguments.options:
        raise Usage(
            f"stage {what!r} takes no options: {' '.join(arguments.options)}; "
            "those after -- are for a playbook, which is named by its path"
        )
    return staging.run_stages(
        environment, only=what, again=True, file=arguments.file, quiet=arguments.quiet
    )


def _play(environment: Listed, playbook: str, options: list[str]) -> int:
    path = Path(playbook)
    if not path.is_file():
        there = sorted(
            str(each)
            for suffix in _PLAYBOOKS
            for each in (path.parent.glob(f"*{suffix}") if path.parent.is_dir() else ())
        )
        raise Usage(
            f"no playbook {playbook}; in {path.parent.absolute()} are: "
            f"{', '.join(there) or 'none'}{similar(playbook, there)}"
        )
    return plays.run(
        environment, "ansible-playbook", [playbook, *options], near=path.absolute().parent
    )
