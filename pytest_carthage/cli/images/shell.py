"""``pytest-carthage images shell``: look into an image that is not booted."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_carthage import clock
from pytest_carthage.cli.images.selection import NAME, absent, inventory, select
from pytest_carthage.cli.usage import Usage
from pytest_carthage.errors import CarthageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_carthage.store.broken import BrokenBuild
    from pytest_carthage.store.built import Built
    from pytest_carthage.store.root import Store

__all__ = ["add", "run"]


def add(verbs: Any) -> None:
    """Add the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "shell",
        help="look into an image that is not booted",
        description="Open a shell, or run a command, in a copy of an image's file system that is "
        "thrown away at the end. Nothing is booted. A broken build that was kept is opened as its "
        "task has left it.",
    )
    parser.add_argument("--network", action="store_true", help="with the network of this host")
    parser.add_argument("name", metavar="NAME", help=f"{NAME}; or a broken build's name")
    parser.add_argument("command", metavar="COMMAND", nargs=argparse.REMAINDER)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Open it; returns the status of what ran."""
    from pytest_carthage.store.built import recall

    command = list(arguments.command)
    if command[:1] == ["--"]:
        del command[0]
    if not command and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Usage(
            "shell needs a terminal; for a script: "
            f"pytest-carthage images shell {arguments.name} -- COMMAND"
        )
    all_there_is = inventory()
    store = all_there_is.store
    build = all_there_is.find_broken(arguments.name)
    images = all_there_is.find(arguments.name)
    last = max((kept.record.used_at for kept in images), default=0.0)
    if build is not None and build.at > last:  # what a person was told of last
        sight = _of_broken(store, build)
    elif images:
        sight = _of_image(recall(store, select(all_there_is, arguments.name).record))
    else:
        raise Usage(absent(all_there_is, arguments.name, with_broken=True))
    return _open(sight, command, network=arguments.network)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sight:
    """What is looked into; its layers are held until the store is released."""

    name: str
    store: Store
    #: trees, the top first
    lower: Sequence[Path]
    env: Mapping[str, str]


def _of_image(built: Built) -> _Sight:
    return _Sight(
        name=built.image.name, store=built.store, lower=built.lower, env=dict(built.config.env)
    )


def _of_broken(store: Store, build: BrokenBuild) -> _Sight:
    """A broken build: its own files are the top layer."""
    from pytest_carthage.report.kept import age

    is_there = bool(build.layers) and store.holding.add(build.path) and store.hold(build.layers[-1])
    chain = store.layers.chain(build.layers[-1]) if is_there else None
    if chain is None:
        raise CarthageError(
            f"broken build {build.name!r}: the layers below it are gone; try: build it again"
        )
    print(
        f"broken build of image {build.image!r}: task {build.title!r} failed "
        f"{age(clock.unix_s() - build.at)} ago",
        file=sys.stderr,
    )
    return _Sight(
        name=build.name,
        store=store,
        lower=[build.tree, *(layer.tree for layer in reversed(chain))],
        env=dict(chain[0].meta.config.get("env") or {}),
    )


def _open(sight: _Sight, command: Sequence[str], *, network: bool) -> int:
    """Run a command, or a shell, in a copy of a file system."""
    import contextlib

    from pytest_carthage.cli.command import (
        SHELL,
        CannotRun,
        exit_status,
        run_on_streams,
        run_on_terminal,
    )
    from pytest_carthage.fabric.wire import client
    from pytest_carthage.images.workshop import copied
    from pytest_carthage.portal import Portal

    tools = sight.store.root / "tools"
    portal = Portal()
    stack = contextlib.AsyncExitStack()
    try:
        workshop = portal.call(
            stack.enter_async_context,
            copied(
                sight.store,
                [*sight.lower, *([tools] if tools.is_dir() else [])],
                name=sight.name,
                who=f"image {sight.name!r}",
                portal=portal,
                network=network,
                env=sight.env,
            ),
        )
        with client.connect(str(workshop.folder / "agent.sock"), sight.name) as connection:
            try:
                # by number: an image may be without a list of users
                if command:
                    return exit_status(run_on_streams(connection, command, user="0"))
                return exit_status(run_on_terminal(connection, SHELL, user="0"))
            except CannotRun as error:
                if error.status is None:
                    raise
                print(f"pytest-carthage: {error}", file=sys.stderr)
                return error.status
    finally:
        portal.call(stack.aclose)
        portal.close()
