"""``pytest-carthage logs MACHINE``: what its main process and its init printed."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.cli import target
from pytest_carthage.errors import CarthageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_carthage.state.run import Listed


def add(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "logs",
        help="print a machine's log",
        description="Print what a live machine's main process printed; where systemd is its "
        "init, the journal.",
    )
    target.add_machine(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on as it grows")
    parser.add_argument("-n", "--lines", type=_count, metavar="N", help="the last N lines only")
    parser.set_defaults(run=run)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of lines")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Print it."""
    environment, machine = target.machine(arguments.machine)
    if environment.machines[machine].get("init") == "systemd":
        return _journal(environment, machine, arguments)
    path = environment.folder / "logs" / f"{machine}.log"
    if not path.exists() or (path.stat().st_size == 0 and not arguments.follow):
        print(f"(machine {machine!r} has printed nothing)", file=sys.stderr)
        return 0
    clean: Callable[[bytes], bytes] = bytes
    if environment.machines[machine].get("target") == "podman":
        clean = _without_stamps
    return _print_file(path, environment, arguments, clean)


def _without_stamps(text: bytes) -> bytes:
    from pytest_carthage.providers.podman.printed import without_stamps

    return without_stamps(text.decode(errors="replace")).encode()


def _journal(environment: Listed, machine: str, arguments: argparse.Namespace) -> int:
    from pytest_carthage.cli.command import exit_status, run_on_streams

    lines = "all" if arguments.lines is None else str(arguments.lines)
    argv = ["journalctl", "--no-pager", f"--lines={lines}", *(["-f"] if arguments.follow else [])]
    with target.connect(environment, machine) as client:
        return exit_status(run_on_streams(client, argv))


def _print_file(
    path: Path,
    environment: Listed,
    arguments: argparse.Namespace,
    clean: Callable[[bytes], bytes],
) -> int:
    try:
        with path.open("rb") as file:
            text = clean(file.read())
            if arguments.lines is not None:
                kept = text.splitlines(keepends=True)[-arguments.lines :] if arguments.lines else []
                text = b"".join(kept)
            _print(text)
            # the file has no other way to tell that it grew than to be looked at
            while arguments.follow and environment.folder.exists():
                _print(clean(file.read()))
                time.sleep(0.2)
    except OSError as error:
        raise CarthageError(f"log {path}: {error.strerror}") from error
    return 0


def _print(data: bytes) -> None:
    while data:
        data = data[os.write(sys.stdout.fileno(), data) :]
