"""A remote shell for rsync: runs a command in a machine, through its agent.

``python -I -S rsh.py SOCKET MACHINE [-l USER] HOST COMMAND...``: what comes after the machine is
what rsync says to ``ssh``; the host is passed over. Exits with the command's status, or with 255
when it could not be run, as ssh does.

Standard library only: it must start in milliseconds.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["begin", "command_of"]

_SUDO = ("/usr/bin/sudo", "/bin/sudo", "/usr/local/bin/sudo")
_BY_SUDO = re.compile(r"sudo (?:-u (?P<user>\S+) )?(?P<command>.*)", re.DOTALL)


def command_of(words: Sequence[str]) -> tuple[str | None, str]:
    """The user and the shell command of what rsync says to ``ssh``."""
    rest = list(words)
    user = None
    while rest and rest[0].startswith("-"):
        if rest.pop(0) == "-l":
            user = rest.pop(0)
    return user, " ".join(rest[1:])


def begin(agent: Any, words: Sequence[str], fds: tuple[int, int, int], refused: Any) -> int:
    """Begin what rsync says to ``ssh`` in a machine; returns the number of the job.

    As for other tasks, the agent itself changes users where the machine has no sudo.

    :param agent: a client of the machine's agent.
    :param refused: what that raises.
    """
    user, command = command_of(words)
    by_sudo = _BY_SUDO.fullmatch(command)
    if by_sudo is not None and not _has_sudo(agent, refused):
        user, command = by_sudo["user"] or "root", by_sudo["command"]
    who = {} if user is None else {"user": user}
    reply, _ = agent.request("run", fds=fds, argv=["/bin/sh", "-c", command], **who)
    return int(reply["job"])


def _has_sudo(agent: Any, refused: Any) -> bool:
    for path in _SUDO:
        with suppress(refused):
            agent.request("stat", path=path)
            return True
    return False


def _main(path: str, machine: str, *words: str) -> int:
    # at the end: nothing beside the package stands before the standard library
    sys.path.append(str(Path(__file__).resolve().parents[3]))
    from pytest_carthage.fabric.wire import client

    try:
        with client.connect(path, machine) as agent:
            job = begin(agent, words, (0, 1, 2), client.Refused)
            # the command has them now, and ends what it reads and writes
            os.close(0)
            os.close(1)
            status = int(agent.request("wait", job=job)[0]["status"])
    except (client.Refused, OSError) as error:
        sys.stderr.write(f"machine {machine!r}: {error}\n")
        return 255
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    os._exit(_main(*sys.argv[1:]))
