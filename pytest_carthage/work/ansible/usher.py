"""Leads Ansible into its station, where it runs under a guard.

``main([ENTRY, PROGRAM, ARGUMENT...])`` with a pipe as standard input, as for :mod:`.guard`; ENTRY
is the JSON of an :class:`~pytest_carthage.fabric.entrance.Entry`. The process that is started stays
outside, as only a child can be in another PID namespace; the guard is inside, and ends with it.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from pytest_carthage.fabric import entrance
from pytest_carthage.fabric import syscalls as sys_
from pytest_carthage.work.ansible import guard

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(argv: list[str]) -> int:
    """Run the program in the station; returns its exit status."""
    folder = os.getcwd()  # noqa: PTH109  no need for pathlib
    try:
        user = entrance.enter(json.loads(argv[0]))
    except OSError as error:
        return _refused(error)
    inside = os.fork()
    if inside == 0:
        status = 127
        try:
            status = _settle(user, folder, argv[1:])
        finally:
            os._exit(status)
    for number in _SIGNALS:
        signal.signal(number, lambda *_: os.kill(inside, signal.SIGTERM))
    _, raw = os.waitpid(inside, 0)
    status = os.waitstatus_to_exitcode(raw)
    return status if status >= 0 else 128 - status


def _settle(user: entrance.User, folder: str, argv: list[str]) -> int:
    try:
        entrance.settle(user)
        os.chdir(folder)  # it may be below something that was mounted
    except OSError as error:
        return _refused(error)
    sys_.die_with_parent(signal.SIGTERM)  # the guard ends all the others
    return guard.main(argv)


def _refused(error: OSError) -> int:
    sys.stderr.write(f"ERROR! the play cannot enter the layout's networks: {error}\n")
    sys.stderr.flush()
    return 126


def run() -> None:
    """Be that process; never returns."""
    os._exit(main(sys.argv[1:]))
