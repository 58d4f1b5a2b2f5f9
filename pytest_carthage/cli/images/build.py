"""``pytest-carthage images build``: build all images of a layout, or one image."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_carthage import clock
from pytest_carthage.cli.output import add_json, count, print_json, size
from pytest_carthage.cli.policy import add_policy, policy
from pytest_carthage.cli.usage import Usage
from pytest_carthage.errors import CarthageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_carthage.events import Reporter
    from pytest_carthage.images.policy import Policy
    from pytest_carthage.model.image import Image
    from pytest_carthage.portal import Portal
    from pytest_carthage.store.built import Built
    from pytest_carthage.store.layer import Layer

__all__ = ["add", "run"]

#: builds that run at once; each may run a compiler or apt
_AT_ONCE = 4


def add(verbs: Any) -> None:
    """Add the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "build",
        help="build images",
        description="Build all images of a layout, or one image; what is there already is not "
        "built again.",
    )
    parser.add_argument(
        "reference",
        metavar="WHAT",
        help="PATH.py:Class (a layout) or PATH.py:NAME (an image)",
    )
    parser.add_argument("--target", metavar="TARGET", help="as of `pytest-carthage up`")
    add_policy(parser)
    parser.add_argument(
        "--keep-on-fail", action="store_true", help="keep a build that failed, for a look"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Build them; those that could be built are told, whatever became of the others."""
    from pytest_carthage.cli import reference
    from pytest_carthage.cli.progress import showing
    from pytest_carthage.portal import Portal

    images = reference.images(arguments.reference, arguments.target)
    allowed = replace(_allowed(arguments), keep_broken=arguments.keep_on_fail)
    began_at = clock.unix_s()
    portal = Portal()
    try:
        with showing(quiet=arguments.quiet) as reporter:
            portal.call(_check, arguments, allowed)
            results = portal.call(_build_all, images, portal, reporter, allowed)
    finally:
        portal.close()
    failures = [result for result in results if isinstance(result, BaseException)]
    every = [result for result in results if not isinstance(result, BaseException)]
    if arguments.json:
        print_json([_row(built, began_at) for built in every])
    else:
        for built in every:
            print(_line(built, began_at))
    if failures:
        for error in failures:
            if not isinstance(error, CarthageError | OSError):
                raise error
        raise CarthageError("\n".join(map(str, failures))) from failures[0]
    return 0


def _allowed(arguments: argparse.Namespace) -> Policy:
    """What the builds may do."""
    from pytest_carthage.cli import reference
    from pytest_carthage.images.policy import Policy

    named: str = arguments.reference
    if arguments.locked is None:
        return Policy(offline=arguments.offline)
    if reference.is_image(named):
        raise Usage(f"{named} is an image, and a lock is a layout's; try: PATH.py:Class")
    return policy(arguments, reference.layout(named), text=named)


async def _check(arguments: argparse.Namespace, allowed: Policy) -> None:
    """Look at what builds need before the first begins."""
    from pytest_carthage.cli import reference
    from pytest_carthage.images.preflight import check_layout

    if allowed.lock is not None:
        layout = reference.layout(arguments.reference)
        plan = reference.planned(arguments.reference, arguments.target)
        await check_layout(layout, plan, allowed, note=lambda image, text: None)


async def _build_all(
    images: Sequence[Image], portal: Portal, reporter: Reporter, policy: Policy
) -> list[Built | BaseException]:
    """Build all; a failure of one is not that of the others."""
    import asyncio

    from pytest_carthage.events import Work
    from pytest_carthage.images.builder import ensure

    turn = asyncio.Semaphore(_AT_ONCE)

    async def build(image: Image) -> Built:
        async with turn:
            with Work(reporter, f"image {image.name}") as subject:
                return await ensure(
                    image,
                    portal=portal,
                    note=lambda image, text: subject.note(text),
                    policy=policy,
                )

    return await asyncio.gather(*map(build, images), return_exceptions=True)


def _new(built: Built, began_at: float) -> list[Layer]:
    return [layer for layer in built.layers if layer.meta.made_at >= began_at]


def _line(built: Built, began_at: float) -> str:
    new = _new(built, began_at)
    whole = f"{count(len(built.layers), 'layer')}, {size(_whole(built))}"
    if not new:
        return f"{built.image.name}: was there already ({whole})"
    took = sum(layer.meta.seconds for layer in new)
    return f"{built.image.name}: {count(len(new), 'layer')} built in {took:.1f} s ({whole})"


def _whole(built: Built) -> int:
    return sum(layer.meta.size for layer in built.layers)


def _row(built: Built, began_at: float) -> dict[str, Any]:
    return {
        "name": built.image.name,
        "tag": built.image.tag,
        "key": built.image.key,
        "layers": [layer.key for layer in built.layers],
        "built": [layer.key for layer in _new(built, began_at)],
        "bytes": _whole(built),
    }
