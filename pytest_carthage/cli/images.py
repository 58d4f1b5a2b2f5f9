"""``pytest-carthage images``: what is kept of images, to build, look into, hand on and remove."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.cli.output import add_json, print_json, print_table, size
from pytest_carthage.cli.policy import add_policy, policy
from pytest_carthage.cli.usage import Usage
from pytest_carthage.errors import CarthageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_carthage.images.garbage import Removed
    from pytest_carthage.images.inventory import Inventory, Kept, User
    from pytest_carthage.images.policy import Policy
    from pytest_carthage.images.store import Broken, Built, Layer, Store
    from pytest_carthage.model.image import Image
    from pytest_carthage.portal import Portal
    from pytest_carthage.report.events import Kind, Reporter

_NAME = "an image's name, its tag, or the beginning of its key"
_HINT = "see `pytest-carthage images ls`, or build one: pytest-carthage images build PATH.py:Class"
#: builds that run at once; each may run a compiler or apt
_AT_ONCE = 4


def add(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "images",
        help="list, build, look into, save and remove images",
        description="Images that were built on this host. NAME is an image's name, its tag, or "
        "the beginning of its key.",
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    def verb(name: str, run: Callable[[argparse.Namespace], int], text: str, more: str) -> Any:
        made = verbs.add_parser(name, help=text, description=more)
        made.set_defaults(run=run)
        return made

    ls = verb(
        "ls",
        _ls,
        "list images",
        "List images, the last used first: layers, size (of layers that no other image has, and "
        "of those that others have, too), when built and used, and whether somebody uses it; "
        "then broken builds that were kept, and what is being built.",
    )
    add_json(ls)

    build = verb(
        "build",
        _build,
        "build images",
        "Build all images of a layout, or one image; what is there already is not built again.",
    )
    build.add_argument(
        "what", metavar="WHAT", help="PATH.py:Class (a layout) or PATH.py:NAME (an image)"
    )
    build.add_argument("--target", metavar="TARGET", help="as of `pytest-carthage up`")
    add_policy(build)
    build.add_argument(
        "--keep-on-fail", action="store_true", help="keep a build that failed, for a look"
    )
    build.add_argument("-q", "--quiet", action="store_true", help="no progress")
    add_json(build)

    rm = verb(
        "rm",
        _rm,
        "remove images",
        "Remove images and broken builds, with the layers that no other image needs. One that "
        "somebody uses is refused.",
    )
    rm.add_argument("names", metavar="NAME", nargs="+", help=f"{_NAME}; or a broken build's name")
    add_json(rm)

    gc = verb(
        "gc",
        _gc,
        "remove what is not needed",
        "Remove images that were not used for long, layers that are in no image, broken builds "
        "and downloaded packages of that age, and what dead builds have left. What somebody uses "
        "or builds stays.",
    )
    gc.add_argument(
        "--older-than", metavar="DURATION", default="30d", help="as in 12h, 7d, 30d (default)"
    )
    gc.add_argument("--dry-run", action="store_true", help="only tell what would be removed")
    add_json(gc)

    history = verb(
        "history",
        _history,
        "tell how an image was made",
        "Tell layer by layer, the base first, when it was made, how long that took, its size, "
        "and which files of this host it was made of.",
    )
    history.add_argument("name", metavar="NAME", help=_NAME)
    add_json(history)

    shell = verb(
        "shell",
        _shell,
        "look into an image that is not booted",
        "Open a shell, or run a command, in a copy of an image's file system that is thrown "
        "away at the end. Nothing is booted. A broken build that was kept is opened as its task "
        "has left it.",
    )
    shell.add_argument("--network", action="store_true", help="with the network of this host")
    shell.add_argument("name", metavar="NAME", help=f"{_NAME}; or a broken build's name")
    shell.add_argument("command", metavar="COMMAND", nargs=argparse.REMAINDER)

    save = verb(
        "save",
        _save,
        "save an image to a file",
        "Save an image as what the name of the file says: .oci.tar an OCI archive, .tar, .tar.gz "
        "or .tar.zst its root file system, .qcow2 or .img a disk to boot.",
    )
    save.add_argument("name", metavar="NAME", help=_NAME)
    save.add_argument("file", metavar="FILE", type=Path)
    save.add_argument("-q", "--quiet", action="store_true", help="no progress")

    push = verb("push", _push, "push an image to a registry", "Push an image to a registry.")
    push.add_argument("name", metavar="NAME", help=_NAME)
    push.add_argument(
        "destination", metavar="DESTINATION", help="as in docker://registry.example/name:tag"
    )
    push.add_argument("-q", "--quiet", action="store_true", help="no progress")


def _inventory() -> Inventory:
    from pytest_carthage.images.inventory import Inventory
    from pytest_carthage.images.store import Store

    return Inventory(Store())


# from what a person typed to an image


def _one(inventory: Inventory, name: str) -> Kept:
    """The image that is meant.

    :raises Usage: there is none, or there are several.
    """
    found = inventory.find(name)
    if len(found) == 1:
        return found[0]
    if found:
        raise Usage(_several(name, found))
    raise Usage(_absent(inventory, name))


def _several(name: str, found: Sequence[Kept]) -> str:
    from pytest_carthage.report.kept import age

    now_s = time.time()
    rows = [
        f"  {one.short}  {one.record.name}, {_count(len(one.record.layers), 'layer')}, "
        f"used {age(now_s - one.record.used_at)} ago"
        for one in found
    ]
    return "\n".join([f"image {name!r}: which one? say its key:", *rows])


def _absent(inventory: Inventory, name: str, *, with_broken: bool = False) -> str:
    names = list(dict.fromkeys(one.record.name for one in inventory.images))
    if with_broken:
        names += [f"{one.name} (broken)" for one in inventory.broken]
    if not names:
        return f"image {name!r}: no image was built here; {_HINT}"
    return f"there is no image {name!r}; there are: {', '.join(names)}"


# ls


def _ls(arguments: argparse.Namespace) -> int:
    from pytest_carthage.images.inventory import SHORT, users_of

    inventory = _inventory()
    users = {one.top: users_of(inventory.store, one.top) for one in inventory.images if one.top}
    broken = [(one, _size_of(one)) for one in inventory.broken]
    building = inventory.building()
    if arguments.json:
        print_json(
            {
                "root": str(inventory.store.root),
                "images": [_row(one, users.get(one.top, [])) for one in inventory.images],
                "broken": [_broken_row(one, size) for one, size in broken],
                "building": [
                    {"key": one.key, "image": one.image, "text": one.text, "pid": one.pid}
                    for one in building
                ],
                "layers": len(inventory.layers),
                "bytes": sum(inventory.sizes.values()),
                "unnamed": [layer.key for layer in inventory.unnamed],
            }
        )
        return 0
    if inventory.images:
        _print_images(inventory, users)
    else:
        print(f"no image was built in {inventory.store.root}")
    if broken:
        _print_broken(broken)
    if building:
        print("\nbeing built")
        for one in building:
            by = f" (process {one.pid})" if one.pid else ""
            print(f"  {one.image or one.key[:SHORT]}: {one.text or 'begun'}{by}")
    return 0


def _size_of(broken: Broken) -> int:
    from pytest_carthage.images.store import disk_usage

    return disk_usage(broken.path)


def _print_images(inventory: Inventory, users: dict[str, list[User]]) -> None:
    from pytest_carthage.report.kept import age

    now_s = time.time()
    print_table(
        ("NAME", "TAG", "KEY", "LAYERS", "OWN", "SHARED", "BUILT", "USED", "STATE"),
        [
            (
                one.record.name,
                one.record.tag or "-",
                one.short,
                str(len(one.record.layers)),
                size(one.own),
                size(one.shared),
                f"{age(now_s - one.record.built_at)} ago",
                f"{age(now_s - one.record.used_at)} ago",
                _state(one, users.get(one.top, [])),
            )
            for one in inventory.images
        ],
    )
    total = sum(inventory.sizes.values())
    print(f"{_count(len(inventory.layers), 'layer')}, {size(total)}, in {inventory.store.root}")
    unnamed = inventory.unnamed
    if unnamed:
        free = sum(inventory.sizes[layer.key] for layer in unnamed)
        print(
            f"{_count(len(unnamed), 'layer')} of these ({size(free)}) in no image; "
            "remove: pytest-carthage images gc"
        )


def _print_broken(broken: Sequence[tuple[Broken, int]]) -> None:
    from pytest_carthage.report.kept import age

    now_s = time.time()
    print()
    print_table(
        ("BROKEN BUILD", "IMAGE", "TASK THAT FAILED", "SIZE", "WHEN"),
        [
            (one.name, one.image, one.title, size(taken), f"{age(now_s - one.at)} ago")
            for one, taken in broken
        ],
    )


def _state(one: Kept, users: Sequence[User]) -> str:
    if not one.is_complete:
        return "incomplete"
    return f"in use ({len(users)})" if len(users) > 1 else "in use" if users else "unused"


def _row(one: Kept, users: Sequence[User]) -> dict[str, Any]:
    return {
        "name": one.record.name,
        "tag": one.record.tag,
        "key": one.record.key,
        "layers": list(one.record.layers),
        "complete": one.is_complete,
        "own_bytes": one.own,
        "shared_bytes": one.shared,
        "built_at": one.record.built_at,
        "used_at": one.record.used_at,
        "users": [{"pid": user.pid, "command": user.command} for user in users],
    }


def _broken_row(one: Broken, taken: int) -> dict[str, Any]:
    return {
        "name": one.name,
        "image": one.image,
        "task": one.title,
        "error": one.error,
        "at": one.at,
        "bytes": taken,
        "layers": list(one.layers),
    }


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


# build


def _build(arguments: argparse.Namespace) -> int:
    from pytest_carthage.cli import reference
    from pytest_carthage.cli.progress import showing
    from pytest_carthage.portal import Portal

    images = reference.images(arguments.what, arguments.target)
    allowed = replace(_allowed(arguments), keep_broken=arguments.keep_on_fail)
    began_at = time.time()
    portal = Portal()
    try:
        with showing(quiet=arguments.quiet) as reporter:
            portal.call(_check, arguments, allowed)
            results = portal.call(_build_all, images, portal, reporter, allowed)
    finally:
        portal.close()
    failed = [one for one in results if isinstance(one, BaseException)]
    built = [one for one in results if not isinstance(one, BaseException)]
    if arguments.json:
        print_json([_built_row(one, began_at) for one in built])
    else:
        for one in built:
            print(_built_line(one, began_at))
    if failed:
        for error in failed:
            if not isinstance(error, CarthageError | OSError):
                raise error
        raise CarthageError("\n".join(map(str, failed))) from failed[0]
    return 0


def _allowed(arguments: argparse.Namespace) -> Policy:
    """What the builds may do."""
    from pytest_carthage.cli import reference
    from pytest_carthage.images.policy import Policy

    if arguments.locked is None:
        return Policy(offline=arguments.offline)
    if reference.is_image(arguments.what):
        raise Usage(f"{arguments.what} is an image, and a lock is a layout's; try: PATH.py:Class")
    return policy(arguments, reference.layout(arguments.what), text=arguments.what)


async def _check(arguments: argparse.Namespace, allowed: Policy) -> None:
    """Look at what builds need before the first begins."""
    from pytest_carthage.cli import reference
    from pytest_carthage.images.preflight import check_layout

    if allowed.lock is not None:
        plan = reference.planned(arguments.what, arguments.target)
        await check_layout(
            reference.layout(arguments.what), plan, allowed, note=lambda who, text: None
        )


async def _build_all(
    images: Sequence[Image], portal: Portal, reporter: Reporter, policy: Any
) -> list[Built | BaseException]:
    """Build all; a failure of one is not that of the others."""
    import asyncio

    from pytest_carthage.images.builder import ensure

    turn = asyncio.Semaphore(_AT_ONCE)

    async def build(image: Image) -> Built:
        begin = time.monotonic()

        def tell(kind: Kind, text: str = "", duration_s: float | None = None) -> None:
            _tell(reporter, f"image {image.name}", kind, text, duration_s)

        async with turn:
            tell("start")
            try:
                built = await ensure(
                    image, portal=portal, note=lambda who, text: tell("note", text), policy=policy
                )
            except BaseException as error:
                first = str(error).partition("\n")[0]
                tell("failed", first, time.monotonic() - begin)
                raise
            tell("done", "", time.monotonic() - begin)
        return built

    return await asyncio.gather(*map(build, images), return_exceptions=True)


def _tell(
    reporter: Reporter, subject: str, kind: Kind, text: str = "", duration_s: float | None = None
) -> None:
    from pytest_carthage.report.events import Event

    reporter.event(
        Event(
            at_s=time.time(),
            environment="",
            subject=subject,
            kind=kind,
            text=text,
            duration_s=duration_s,
        )
    )


def _new(built: Built, began_at: float) -> list[Layer]:
    return [layer for layer in built.layers if layer.meta.made_at >= began_at]


def _built_line(built: Built, began_at: float) -> str:
    new = _new(built, began_at)
    whole = f"{_count(len(built.layers), 'layer')}, {size(_whole(built))}"
    if not new:
        return f"{built.image.name}: was there already ({whole})"
    took = sum(layer.meta.seconds for layer in new)
    return f"{built.image.name}: {_count(len(new), 'layer')} built in {took:.1f} s ({whole})"


def _whole(built: Built) -> int:
    return sum(layer.meta.size for layer in built.layers)


def _built_row(built: Built, began_at: float) -> dict[str, Any]:
    return {
        "name": built.image.name,
        "tag": built.image.tag,
        "key": built.image.key,
        "layers": [layer.key for layer in built.layers],
        "built": [layer.key for layer in _new(built, began_at)],
        "bytes": _whole(built),
    }


# rm and gc


def _rm(arguments: argparse.Namespace) -> int:
    """Remove them; all are looked up before the first one goes."""
    from pytest_carthage.images import garbage
    from pytest_carthage.images.inventory import users_of

    inventory = _inventory()
    store = inventory.store
    images: list[Kept] = []
    broken: list[Broken] = []
    for name in dict.fromkeys(arguments.names):
        ruin = inventory.find_broken(name)
        found = inventory.find(name)
        if len(found) > 1:
            raise Usage(_several(name, found))
        if not found and ruin is None:
            raise Usage(_absent(inventory, name, with_broken=True))
        images += found
        broken += [ruin] if ruin is not None else []
    for one in images:
        if users := users_of(store, one.top):
            raise CarthageError(_in_use(one, users))
    removed: list[Removed] = []
    for ruin in broken:
        row = garbage.remove_broken(store, ruin)
        if row is None:
            raise CarthageError(f"broken build {ruin.name!r}: somebody looks into it just now")
        removed.append(row)
        if not arguments.json:
            print(f"removed broken build {row.name} ({size(row.size)})")
    for one in images:
        removed += _remove(store, one, quiet=arguments.json)
    if arguments.json:
        print_json([_removed_row(row) for row in removed])
    return 0


def _remove(store: Store, one: Kept, *, quiet: bool) -> list[Removed]:
    from pytest_carthage.images import garbage
    from pytest_carthage.images.inventory import Inventory, users_of

    if not store.forget(one.record):
        raise CarthageError(_in_use(one, users_of(store, one.top)))
    others = Inventory(store).images
    needed = {key for other in others for key in other.record.layers}
    needed |= {key for ruin in store.broken() for key in ruin.layers}
    own = [key for key in reversed(one.record.layers) if key not in needed]
    rows = garbage.remove_layers(store, own)
    if not quiet:
        freed = size(sum(row.size for row in rows))
        line = f"removed {one.record.name} ({one.short}): {_count(len(rows), 'layer')}, {freed}"
        stay = {layer.key for layer in one.layers if store.layer(layer.key) is not None}
        if stay:
            names = sorted(
                {other.record.name for other in others if stay & set(other.record.layers)}
            )
            verb = "stays" if len(stay) == 1 else "stay"
            why = f"for {', '.join(names)}" if names else "below others"
            line += f"; {_count(len(stay), 'layer')} {verb} {why}"
        print(line)
    return rows


def _in_use(one: Kept, users: Sequence[User]) -> str:
    """Say who uses an image, and how that is ended."""
    from pytest_carthage.state.run import list_environments

    by_pid = {live.description.get("pid"): live.name for live in list_environments()}
    names = [by_pid[user.pid] for user in users if user.pid in by_pid]
    who = [f"environment {name}" for name in names]
    who += [str(user) for user in users if user.pid not in by_pid]
    remedy = f"pytest-carthage rm {' '.join(names)}" if names else "when that has ended"
    return (
        f"image {one.record.name!r} ({one.short}) is in use by "
        f"{', '.join(who) or 'somebody'}; try: {remedy}"
    )


def _gc(arguments: argparse.Namespace) -> int:
    from pytest_carthage.images.garbage import collect
    from pytest_carthage.images.store import Store
    from pytest_carthage.plugin.durations import duration_s

    try:
        older_than_s = duration_s(arguments.older_than)
    except ValueError as error:
        raise Usage(f"--older-than: {error}") from error
    removed = collect(Store(), older_than_s=older_than_s, dry_run=arguments.dry_run)
    if arguments.json:
        print_json([_removed_row(row) for row in removed])
        return 0
    verb = "would remove" if arguments.dry_run else "removed"
    for row in removed:
        print(f"{verb} {row.kind}: {row.name}{f', {size(row.size)}' if row.size else ''}")
    if not removed:
        print("nothing to remove")
        return 0
    total = size(sum(row.size for row in removed))
    print(f"{total} {'would be ' if arguments.dry_run else ''}freed")
    return 0


def _removed_row(row: Removed) -> dict[str, Any]:
    return {"kind": row.kind, "name": row.name, "bytes": row.size}


# history


def _history(arguments: argparse.Namespace) -> int:
    from pytest_carthage.images.inventory import SHORT

    inventory = _inventory()
    one = _one(inventory, arguments.name)
    if arguments.json:
        print_json([_layer_row(layer, inventory) for layer in one.layers])
        return 0
    rows = [
        (
            layer.key[:SHORT],
            time.strftime("%Y-%m-%d %H:%M", time.localtime(layer.meta.made_at)),
            f"{layer.meta.seconds:.1f} s",
            size(inventory.sizes[layer.key]),
            layer.meta.role or "-",
            layer.meta.title,
        )
        for layer in one.layers
    ]
    print_table(("LAYER", "MADE", "TOOK", "SIZE", "ROLE", "TITLE"), rows)
    if missing := len(one.record.layers) - len(one.layers):
        print(f"{_count(missing, 'layer')} of it gone")
    for layer in one.layers:
        if layer.meta.inputs:
            print(f"\n{layer.meta.title} was made of")
            for path, digest in sorted(layer.meta.inputs.items()):
                print(f"  {path}  {digest[:SHORT] or 'not there'}")
    return 0


def _layer_row(layer: Layer, inventory: Inventory) -> dict[str, Any]:
    meta = layer.meta
    return {
        "key": layer.key,
        "kind": meta.kind,
        "title": meta.title,
        "role": meta.role,
        "command": meta.command,
        "made_at": meta.made_at,
        "seconds": meta.seconds,
        "bytes": inventory.sizes[layer.key],
        "inputs": dict(meta.inputs),
        "images": inventory.times[layer.key],
        "folder": str(layer.tree),
    }


# shell


def _shell(arguments: argparse.Namespace) -> int:
    from pytest_carthage.images.inventory import recall
    from pytest_carthage.images.store import Store

    command = list(arguments.command)
    if command[:1] == ["--"]:
        del command[0]
    if not command and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Usage(
            "shell needs a terminal; for a script: "
            f"pytest-carthage images shell {arguments.name} -- COMMAND"
        )
    inventory = _inventory()
    broken = inventory.find_broken(arguments.name)
    last = max((one.record.used_at for one in inventory.find(arguments.name)), default=0.0)
    if broken is not None and broken.at > last:  # what a person was told of last
        return _look(_broken_layers(inventory.store, broken), broken.name, command, arguments)
    if not inventory.find(arguments.name):
        raise Usage(_absent(inventory, arguments.name, with_broken=True))
    store = Store()
    built = recall(store, _one(inventory, arguments.name).record)
    return _look(
        (store, list(built.lower), dict(built.config.env)), built.image.name, command, arguments
    )


def _broken_layers(store: Store, broken: Broken) -> tuple[Store, list[Path], dict[str, str]]:
    """What a broken build consists of, held; its own files are the top layer."""
    from pytest_carthage.report.kept import age

    # held until this process ends
    held = store.guard(broken.path)
    chain = store.chain(broken.layers[-1]) if held is not None and broken.layers else None
    if chain is None or not store.hold(broken.layers[-1]):
        raise CarthageError(
            f"broken build {broken.name!r}: the layers below it are gone; try: build it again"
        )
    print(
        f"broken build of image {broken.image!r}: task {broken.title!r} failed "
        f"{age(time.time() - broken.at)} ago",
        file=sys.stderr,
    )
    env = dict(chain[0].meta.config.get("env") or {})
    return store, [broken.tree, *(layer.tree for layer in reversed(chain))], env


def _look(
    what: tuple[Store, list[Path], dict[str, str]],
    name: str,
    command: Sequence[str],
    arguments: argparse.Namespace,
) -> int:
    """Run a command, or a shell, in a copy of a file system."""
    import contextlib

    from pytest_carthage.cli.command import (
        CannotRun,
        exit_status,
        run_on_streams,
        run_on_terminal,
    )
    from pytest_carthage.cli.shell import SHELL
    from pytest_carthage.fabric import client
    from pytest_carthage.images.workshop import copied
    from pytest_carthage.portal import Portal

    store, lower, env = what
    tools = store.root / "tools"
    portal = Portal()
    stack = contextlib.AsyncExitStack()
    try:
        workshop = portal.call(
            stack.enter_async_context,
            copied(
                store,
                [*lower, *([tools] if tools.is_dir() else [])],
                name=name,
                who=f"image {name!r}",
                portal=portal,
                network=arguments.network,
                env=env,
            ),
        )
        with client.connect(str(workshop.folder / "agent.sock"), name) as connection:
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


# save and push


def _save(arguments: argparse.Namespace) -> int:
    from pytest_carthage.images import results

    target = Path(arguments.file).absolute()

    async def save(built: Built, note: Callable[[str], None]) -> None:
        await results.save(built, target, note=note)

    _hand_on(arguments, "save", save)
    print(f"{arguments.file}: {size(target.stat().st_size)}")
    return 0


def _push(arguments: argparse.Namespace) -> int:
    from pytest_carthage.images import oci

    async def push(built: Built, note: Callable[[str], None]) -> None:
        await oci.push(built, arguments.destination, note=note)

    _hand_on(arguments, "push", push)
    print(f"pushed to {arguments.destination}")
    return 0


def _hand_on(
    arguments: argparse.Namespace,
    doing: str,
    do: Callable[[Built, Callable[[str], None]], Any],
) -> None:
    """Make something of an image, with progress."""
    from pytest_carthage.cli.progress import showing
    from pytest_carthage.images.inventory import recall
    from pytest_carthage.portal import Portal

    inventory = _inventory()
    built = recall(inventory.store, _one(inventory, arguments.name).record)
    subject = f"{doing} {built.image.name}"
    portal = Portal()
    try:
        with showing(quiet=arguments.quiet) as reporter:
            begin = time.monotonic()
            _tell(reporter, subject, "start")
            try:
                portal.call(do, built, lambda text: _tell(reporter, subject, "note", text))
            except BaseException as error:
                first = str(error).partition("\n")[0]
                _tell(reporter, subject, "failed", first, time.monotonic() - begin)
                raise
            _tell(reporter, subject, "done", "", time.monotonic() - begin)
    finally:
        portal.close()
