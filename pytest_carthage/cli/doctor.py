"""``pytest-carthage doctor``: what this host lacks for each target, and what is left on it."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, get_args

from pytest_carthage.cli import reference
from pytest_carthage.cli.output import add_json, print_json
from pytest_carthage.errors import CarthageError, Problem
from pytest_carthage.fabric.container import delegation
from pytest_carthage.fabric.host import subids, sysctl
from pytest_carthage.fabric.host.privilege import is_privileged
from pytest_carthage.placing import quotas

#: what is looked at beside targets
_IMAGES = "images"
_LIMITS = "limits"
_RUNS = "runs"
_USER = "user"
#: what is said where there is no problem, and where there are some
_WORDS = {
    _RUNS: ("nothing is left", "not destroyed"),
    _LIMITS: ("high enough", "too low"),
    _USER: ("needs no root", "needed without root"),
}


def add(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "doctor",
        help="tell what this host lacks, and install it",
        description="Tell for each target what this host lacks, with its remedy, and what runs "
        "could not destroy. The exit status is 1 when there is anything to tell; without root, and "
        "where no TARGET is named, only what this user can cure counts, if any target is ready for "
        "him. A target whose Python packages were not installed counts only where it is named. "
        "Looking changes nothing.",
    )
    parser.add_argument(
        "targets",
        metavar="TARGET",
        nargs="*",
        help="only these targets, 'images', 'runs' or 'user'",
    )
    parser.add_argument(
        "--machines",
        metavar="N",
        type=_count,
        help="look, too, whether the kernel's limits do for N machines with systemd",
    )
    parser.add_argument(
        "--user",
        metavar="NAME",
        help="look, as root, at what this user needs for machines without root",
    )
    parser.add_argument(
        "--fix",
        action="store_true",
        help="install the packages that are missing, and give the user subordinate ids; with"
        " --machines raise the limits, too, now and in /etc/sysctl.d",
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Look, install where asked to, and look again."""
    problems = _look(arguments)
    counted = _counted(arguments, problems)
    packages = sorted({name for p in counted for name in p.packages})
    settings = {name: v for p in counted for name, v in p.settings.items()}
    commands = dict.fromkeys(p.command for p in counted if p.command)
    if arguments.fix and packages:
        _install(packages)
    if arguments.fix and settings:
        _raise(settings)
    if arguments.fix:
        for command in commands:
            _run_as_root([command], command)
    if arguments.fix and (packages or settings or commands):
        problems = _look(arguments)
        counted = _counted(arguments, problems)
    if arguments.json:
        print_json({target: [_row(p) for p in each] for target, each in problems.items()})
    else:
        _print(problems, counted, _descriptions(problems))
        left = sorted({name for p in counted for name in p.packages})
        if left and not arguments.fix:
            print(f"pytest-carthage doctor --fix installs: {', '.join(left)}")
        if commands and not arguments.fix:
            texts = "; ".join(" ".join(command) for command in commands)
            print(f"pytest-carthage doctor --fix runs as root: {texts}")
    if arguments.targets or is_privileged():
        return 1 if counted else 0
    return 0 if _is_ready_for_user(problems, counted) else 1


def _counted(
    arguments: argparse.Namespace, problems: Mapping[str, Sequence[Problem]]
) -> list[Problem]:
    """Those of targets that are named, else of all that were installed with their extras."""
    return [
        problem
        for each in problems.values()
        if arguments.targets or not any(problem.extra for problem in each)
        for problem in each
    ]


def _is_ready_for_user(
    problems: Mapping[str, Sequence[Problem]], counted: Sequence[Problem]
) -> bool:
    """Whether a user without root can use some target, and has done what he can do."""
    targets = [problems[kind] for kind in reference.providers().kinds]
    usable = any(all(problem.is_partial for problem in each) for each in targets)
    #: what waits for root, waits with all that it needs
    left = [each for each in problems.values() if not any(map(_is_for_root, each))]
    return usable and not any(problem in counted for each in left for problem in each)


def _is_for_root(problem: Problem) -> bool:
    """Whether nobody but root can cure it."""
    return not problem.is_own and not is_privileged()


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of machines")
    return int(text)


def _look(arguments: argparse.Namespace) -> dict[str, Sequence[Problem]]:
    targets, machines, user = arguments.targets, arguments.machines, arguments.user
    providers = reference.providers()
    others: dict[str, Callable[[], Sequence[Problem]]] = {
        _IMAGES: _missing_to_images,
        _RUNS: _left_of_runs,
    }
    if user is not None or not is_privileged():
        others[_USER] = lambda: _missing_to_user(user)
    if machines is not None:
        demand = quotas.Demand.servers(machines, is_apart=is_privileged())
        others[_LIMITS] = lambda: quotas.problems(_LIMITS, demand)
    problems = {
        target: others[target]() if target in others else providers[target].check()
        for target in targets or (*providers.kinds, *others)
    }
    for name, asked in ((_LIMITS, machines), (_USER, user)):
        if targets and asked is not None:
            problems[name] = others[name]()
    if not targets and not problems[_RUNS]:
        del problems[_RUNS]  # that is nothing that a host has to be made ready for
    return problems


def _missing_to_user(name: str | None) -> Sequence[Problem]:
    """What an ordinary user lacks for machines with images.

    :param name: None: who asks. Whether another has a control group is not known.
    :raises CarthageError: there is no such user.
    """
    if name is not None:
        try:
            return subids.problems(_USER, whose=name)
        except KeyError as error:
            raise CarthageError(f"--user: there is no user {name!r} on this host") from error
    return [*subids.problems(_USER), *delegation.problems(_USER, "machines with systemd")]


def _left_of_runs() -> Sequence[Problem]:
    """What should be gone from this host, and from wherever machines outlive it."""
    from pytest_carthage.cli.leftovers import sentence
    from pytest_carthage.state.leftovers import leftovers

    try:
        left = leftovers()
    except OSError as error:
        return [Problem(who=_RUNS, what=str(error), remedy="CARTHAGE_STATE=FOLDER", is_own=True)]
    return [
        Problem(
            who=_RUNS,
            what=sentence(leftover),
            remedy=f"pytest-carthage gc; log: {leftover.folder / 'supervisor.log'}",
            is_own=True,
        )
        for leftover in left
    ]


def _missing_to_images() -> Sequence[Problem]:
    """What this host lacks to build images of any kind, and to make something of them."""
    from pytest_carthage.images.bases import tools as base_tools
    from pytest_carthage.images.exports import tools
    from pytest_carthage.model.image import Kind

    return [*base_tools.check_tools(get_args(Kind)), *tools.check_tools()]


def _row(problem: Problem) -> dict[str, Any]:
    return {
        "who": problem.who,
        "what": problem.what,
        "remedy": problem.remedy,
        "packages": list(problem.packages),
        "settings": dict(problem.settings),
        "command": list(problem.command),
        "extra": problem.extra,
    }


def _descriptions(targets: Iterable[str]) -> dict[str, str]:
    """What there is to say of targets and of images that can be used."""
    from pytest_carthage.provider import Describes

    providers = reference.providers()
    made = {kind: providers[kind] for kind in targets if kind in providers.kinds}
    words = {
        kind: provider.describe()
        for kind, provider in made.items()
        if isinstance(provider, Describes)
    }
    return {_IMAGES: f"built {_how()}", **words}


def _print(
    problems: Mapping[str, Sequence[Problem]],
    counted: Sequence[Problem],
    descriptions: Mapping[str, str],
) -> None:
    for target, each in problems.items():
        how = f", {descriptions[target]}" if target in descriptions else ""
        asked_for = [problem for problem in each if problem in counted]
        state = _state(target, each) if asked_for or not each else "not installed"
        print(f"{target}: {state}{how}")
        for problem in asked_for or [problem for problem in each if problem.extra]:
            print(f"  {problem.what}")
            print(f"    {'root' if _is_for_root(problem) else 'try'}: {problem.remedy}")


def _state(target: str, problems: Sequence[Problem]) -> str:
    """In a few words, whether it can be used."""
    good, bad = _WORDS.get(target, ("ready", "missing"))
    if not problems:
        return good
    for_root = sum(map(_is_for_root, problems))
    if for_root and all(problem.is_partial for problem in problems):
        return f"{good}, root would add {for_root}"
    whose = f", root would add {for_root}" if for_root else ""
    return f"{len(problems)} {bad}{whose}"


def _how() -> str:
    """How this user builds images."""
    return "as root" if is_privileged() else "without root, in user namespaces"


def _raise(settings: Mapping[str, int]) -> None:
    """Raise settings of the kernel, for good.

    :raises CarthageError: there is no right to.
    """
    try:
        done = sysctl.keep(settings)
    except OSError as error:
        words = " ".join(f"{name}={value}" for name, value in settings.items())
        raise CarthageError(f"--fix needs root ({error}); as root: sysctl -w {words}") from error
    for line in done:
        print(line, file=sys.stderr)


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
    # lists that could not all be fetched may still do
    _run_as_root(commands, commands[-1])


def _run_as_root(commands: Sequence[Sequence[str]], needed: Sequence[str]) -> None:
    """Run commands in a row, by sudo where this user is not root.

    :param needed: the one that must succeed.
    :raises CarthageError: there is no right to do that, or it failed.
    """
    by: list[str] = []
    if os.geteuid() != 0:
        sudo = shutil.which("sudo")
        if sudo is None:
            texts = "; ".join(" ".join(command) for command in commands)
            raise CarthageError(f"--fix needs root; as root: {texts}")
        by = [sudo]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in commands:
        argv = [*by, *command]
        print(" ".join(argv), file=sys.stderr)
        # our standard output may be JSON
        done = subprocess.run(argv, env=environment, stdout=sys.stderr, check=False)
        if done.returncode and command is needed:
            raise CarthageError(f"{' '.join(argv)}: exited with status {done.returncode}")
