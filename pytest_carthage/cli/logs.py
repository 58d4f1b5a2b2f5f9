"""``pytest-carthage logs MACHINE``: what its main process and its init printed."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pytest_carthage.cli import target
from pytest_carthage.errors import CarthageError
from pytest_carthage.provider import KeepsLogs, PrintsLogs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_carthage.state.listing import Listed


def add(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "logs",
        help="print a machine's log",
        description="Print what a live machine's main process printed; where systemd is its "
        "init, the journal. Of a host that exists, its journal since it was reserved.",
    )
    target.add_machine(parser)
    parser.add_argument(
        "-c",
        "--console",
        action="store_true",
        help="where systemd is its init, what was printed on its console all the same",
    )
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
    if environment.machines[machine].get("init") == "systemd" and not arguments.console:
        return _journal(environment, machine, arguments)
    provider = _provider(environment.machines[machine])
    if isinstance(provider, KeepsLogs):
        return _kept_there(provider, environment, machine, arguments)
    path = environment.folder / "logs" / f"{machine}.log"
    if not path.exists() or (path.stat().st_size == 0 and not arguments.follow):
        print(f"(machine {machine!r} has printed nothing)", file=sys.stderr)
        return 0
    return _print_file(path, environment, arguments, _reader(environment.machines[machine]))


def _reader(machine: Mapping[str, Any]) -> Callable[[bytes], bytes] | None:
    """What finds in lines of a log file what was printed; None: they are that."""
    provider = _provider(machine)
    return provider.printed if isinstance(provider, PrintsLogs) else None


def _provider(machine: Mapping[str, Any]) -> object:
    """The provider of a machine's target; None: it is not installed here."""
    from pytest_carthage.provider import load_providers

    make = load_providers().get(str(machine.get("target")))
    return None if make is None else make()


def _kept_there(
    provider: KeepsLogs, environment: Listed, machine: str, arguments: argparse.Namespace
) -> int:
    from pytest_carthage.cli.command import exit_status, run_on_streams

    with target.connect(environment, machine) as client:
        facts, _ = client.request("facts")
        argv = provider.log_command(facts, lines=arguments.lines, follow=arguments.follow)
        return exit_status(run_on_streams(client, argv))


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
    printed: Callable[[bytes], bytes] | None,
) -> int:
    try:
        with path.open("rb") as file:
            log = _Log(file, printed)
            data = log.read(last=not arguments.follow)
            if arguments.lines is not None:
                kept = data.splitlines(keepends=True)[-arguments.lines :] if arguments.lines else []
                data = b"".join(kept)
            _print(data)
            # the file has no other way to tell that it grew than to be looked at
            while arguments.follow and environment.folder.exists():
                _print(log.read())
                time.sleep(0.2)
            _print(log.read(last=True))
    except OSError as error:
        raise CarthageError(f"log {path}: {error.strerror}") from error
    return 0


class _Log:
    """A log file that grows.

    :param printed: finds in whole lines what was printed; None: they are that.
    """

    def __init__(self, file: BinaryIO, printed: Callable[[bytes], bytes] | None) -> None:
        self._file = file
        self._printed = printed
        #: the beginning of a line whose end is not written yet
        self._rest = b""

    def read(self, *, last: bool = False) -> bytes:
        """What was printed since the last call.

        :param last: no more is to come: a line without an end is one, too.
        """
        at = self._file.tell()
        self._file.seek(
            0 if self._file.seek(0, os.SEEK_END) < at else at
        )  # it was shortened, or not
        data = self._rest + self._file.read()
        self._rest = b""
        if self._printed is None:
            return data
        if not last:
            end = data.rfind(b"\n") + 1
            data, self._rest = data[:end], data[end:]
        return self._printed(data)


def _print(data: bytes) -> None:
    while data:
        data = data[os.write(sys.stdout.fileno(), data) :]
