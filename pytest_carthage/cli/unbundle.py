"""``pytest-carthage unbundle FILE``: make a suite run on a host without any network."""

from __future__ import annotations

import argparse
import asyncio
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.cli import reference
from pytest_carthage.cli.progress import showing

if TYPE_CHECKING:
    from pytest_carthage.images.bundles.unbundle import Unbundled


def add(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "unbundle",
        help="unpack what `bundle` has packed",
        description="Check a bundle, put its images into the store and its tests into a folder, "
        "and tell what this host lacks to run them (then the exit status is 1). Nothing is "
        "fetched, and none of the tests' code is run.",
    )
    parser.add_argument("bundle", metavar="FILE", type=Path)
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        type=Path,
        help="a new or empty folder (default: the layout's name)",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Unpack it, and say what to do next."""
    from pytest_carthage.events import Work
    from pytest_carthage.images.bundles.unbundle import unbundle

    with showing(quiet=arguments.quiet) as reporter:
        work = Work(reporter, arguments.bundle.name)
        done = asyncio.run(unbundle(arguments.bundle, arguments.folder, note=work.note))
    total = len(done.manifest.layers)
    print(f"{done.folder}: the tests of layout {done.manifest.layout!r}")
    print(f"images: {len(done.manifest.images)}, of {total} layers, {done.new} of them new here")
    lacks = list(_lacks(done))
    for line in lacks:
        print(f"this host lacks: {line}")
    print(f"then:  cd {shlex.quote(str(done.folder))}")
    print("       pytest --carthage-offline --carthage-locked")
    return 1 if lacks else 0


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
