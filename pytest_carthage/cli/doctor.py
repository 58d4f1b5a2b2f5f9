"""``pytest-carthage doctor``: what this host lacks for each target."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pytest_carthage.cli import reference
from pytest_carthage.cli.output import add_json, print_json
from pytest_carthage.errors import CarthageError, Problem

#: what is told of beside targets
_IMAGES = "images"


def add(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "doctor",
        help="tell what this host lacks, and install it",
        description="Tell for each target what this host lacks, with its remedy; the exit "
        "status is 1 when anything is missing. Looking changes nothing.",
    )
    parser.add_argument(
        "targets", metavar="TARGET", nargs="*", help="only these targets, or 'images'"
    )
    parser.add_argument("--fix", action="store_true", help="install the packages that are missing")
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Look, install where asked to, and look again."""
    problems = _look(arguments.targets)
    packages = sorted({name for each in problems.values() for p in each for name in p.packages})
    if arguments.fix and packages:
        _install(packages)
        problems = _look(arguments.targets)
    if arguments.json:
        print_json({target: [_row(p) for p in each] for target, each in problems.items()})
    else:
        _print(problems)
        left = sorted({name for each in problems.values() for p in each for name in p.packages})
        if left and not arguments.fix:
            print(f"pytest-carthage doctor --fix installs: {', '.join(left)}")
    return 1 if any(problems.values()) else 0


def _look(targets: Sequence[str]) -> dict[str, Sequence[Problem]]:
    providers = reference.providers()
    return {
        target: _missing_to_images() if target == _IMAGES else providers[target].check()
        for target in targets or (*providers.kinds, _IMAGES)
    }


def _missing_to_images() -> Sequence[Problem]:
    """What this host lacks to build images of any kind, and to make something of them."""
    from pytest_carthage.images import bases, export
    from pytest_carthage.model.image import Kind

    return [*bases.check_tools(get_args(Kind)), *export.check_tools()]


def _row(problem: Problem) -> dict[str, Any]:
    return {
        "who": problem.who,
        "what": problem.what,
        "remedy": problem.remedy,
        "packages": list(problem.packages),
    }


def _print(problems: Mapping[str, Sequence[Problem]]) -> None:
    for target, each in problems.items():
        how = f", built {_how()}" if target == _IMAGES else ""
        print(f"{target}: {'ready' if not each else f'{len(each)} missing'}{how}")
        for problem in each:
            print(f"  {problem.what}")
            print(f"    try: {problem.remedy}")


def _how() -> str:
    """How this user builds images."""
    from pytest_carthage.fabric.privilege import is_privileged

    return "as root" if is_privileged() else "without root, in user namespaces"


def _install(packages: Sequence[str]) -> None:
    """Install Debian packages.

    :raises CarthageError: there is no apt-get, no right to use it, or it failed.
    """
    apt = shutil.which("apt-get")
    if apt is None:
        raise CarthageError(
            f"--fix installs Debian packages, and there is no apt-get here; "
            f"install these by hand: {', '.join(packages)}"
        )
    # another apt may be at work, as on a machine that has just been started
    wait = ["-o", "DPkg::Lock::Timeout=300"]
    commands = [
        [apt, "update", "--quiet"],
        [apt, "install", "--quiet", "--yes", "--no-install-recommends", *wait, *packages],
    ]
    if os.geteuid() != 0:
        sudo = shutil.which("sudo")
        if sudo is None:
            install = " ".join(commands[-1])
            raise CarthageError(f"--fix needs root; as root: apt-get update; {install}")
        commands = [[sudo, *command] for command in commands]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in commands:
        print(" ".join(command), file=sys.stderr)
        # our standard output may be JSON
        done = subprocess.run(command, env=environment, stdout=sys.stderr, check=False)
        # lists that could not all be fetched may still do
        if done.returncode and command is commands[-1]:
            raise CarthageError(f"{' '.join(command)}: exited with status {done.returncode}")
