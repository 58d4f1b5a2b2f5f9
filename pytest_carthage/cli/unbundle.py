"""``pytest-carthage unbundle FILE``: make a suite run on a host without any network."""

from __future__ import annotations

import argparse
import asyncio
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.cli import reference
from pytest_carthage.cli.output import count
from pytest_carthage.cli.progress import showing
from pytest_carthage.cli.usage import Usage

if TYPE_CHECKING:
    from pytest_carthage.images.bundles.unbundle import Foreign, Unbundled

#: of layers, in a question
_MOST_TITLES = 6


def add(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "unbundle",
        help="unpack what `bundle` has packed",
        description="Check a bundle, put its images into the store and its tests into a folder, "
        "and tell what this host lacks to run them (then the exit status is 1). Nothing is "
        "fetched, and none of the tests' code is run. Layers that were built elsewhere are taken "
        "when somebody says so.",
    )
    parser.add_argument("bundle", metavar="FILE", type=Path)
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        type=Path,
        help="a new or empty folder (default: the layout's name)",
    )
    parser.add_argument(
        "-y",
        "--yes",
        action="store_true",
        help="take layers that were built elsewhere without being asked",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Unpack it, and say what to do next."""
    from pytest_carthage.events import Work
    from pytest_carthage.images.bundles.unbundle import unbundle

    with showing(quiet=arguments.quiet) as reporter:
        work = Work(reporter, arguments.bundle.name)
        done = asyncio.run(
            unbundle(
                arguments.bundle,
                arguments.folder,
                note=work.note,
                trust=(lambda foreign: True) if arguments.yes else _ask,
            )
        )
    total = len(done.manifest.layers)
    print(f"{done.folder}: the tests of layout {done.manifest.layout!r}")
    print(f"images: {len(done.manifest.images)}, of {total} layers, {done.new} of them new here")
    lacks = list(_lacks(done))
    for line in lacks:
        print(f"this host lacks: {line}")
    print(f"then:  cd {shlex.quote(str(done.folder))}")
    print("       pytest --carthage-offline --carthage-locked")
    return 1 if lacks else 0


def _ask(foreign: Foreign) -> bool:
    """Ask whether the layers of a bundle are to be trusted.

    :raises Usage: there is nobody to be asked.
    """
    layers = count(len(foreign.titles), "layer")
    short = ", ".join(foreign.titles[:_MOST_TITLES])
    more = "" if len(foreign.titles) <= _MOST_TITLES else ", ..."
    text = (
        f"{foreign.path.name} has {layers} that were built elsewhere: {short}{more}.\n"
        "Whatever is built on this host from now on stands on them, as if they were made here.\n"
        f"sha256 of its manifest: {foreign.digest}"
    )
    if not sys.stdin.isatty():
        raise Usage(f"{text}\ntry: --yes, if you trust whoever has made it")
    print(text, file=sys.stderr)
    print("Take them? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _lacks(done: Unbundled) -> Iterator[str]:
    """What this host lacks to run the tests, each with its remedy."""
    from pytest_carthage.images.bundles.requirements import missing

    for package, there in missing(done.manifest.requires):
        having = f"it has {there}" if there else "it has none"
        pinned = f"{package.name}=={package.version}"
        yield f"python: {package.name} {package.version}: {having}; try: pip install {pinned}"
    providers = reference.providers()
    for target in done.manifest.targets:
        if target not in providers.kinds:
            yield f"target {target!r}: nothing provides it; try: pip install what does"
            continue
        for problem in providers[target].check():
            if problem.who != "images":  # what builds them
                yield str(problem)
