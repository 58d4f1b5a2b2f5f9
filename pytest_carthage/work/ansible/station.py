"""Where a play works: in a network of the layout, among the host's files."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_carthage.fabric.entrance import Entry

__all__ = ["HOST", "SEALED", "Station", "way_out"]

#: sockets of who knows the users of a host: without them a user may have no name
_USERS = (
    "/var/lib/sss/pipes",
    "/run/nslcd",
    "/run/samba/winbindd",
    "/run/systemd/userdb",
)
#: how programs say that nothing leads to a host, or that nobody knows its name
_UNREACHED = re.compile(
    "Network is unreachable|Name or service not known|Temporary failure in name resolution"
    "|[Cc]ould not resolve host"
)
_PACKAGE = Path(__file__).resolve().parents[3]
_GUARD = Path(__file__).resolve().parent / "guard.py"
_USHER = (
    f"import sys; sys.path.insert(0, {str(_PACKAGE)!r});"
    "from pytest_carthage.work.ansible.usher import run; run()"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """Where ``ansible-playbook`` runs, and what it finds there."""

    #: descriptor of its network namespace; -1: it has its loopback alone
    network: int = -1
    #: descriptor of its PID namespace; -1: one that ends with the play
    processes: int = -1
    #: file to the path at which it is seen in place of the host's
    files: Mapping[str, str] = field(default_factory=dict)
    #: sockets of the host, and folders of sockets, that stay in reach
    sockets: Sequence[str] = ()
    #: whether it is none at all, but the host's network
    is_host: bool = False

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Those that the process has to inherit."""
        return tuple(fd for fd in (self.network, self.processes) if fd >= 0)

    def command(self, env: Mapping[str, str]) -> list[str]:
        """What leads a command into it that follows; that is kept alive by its standard input."""
        python = [sys.executable, "-I", "-S"]
        if self.is_host:
            return [*python, str(_GUARD)]
        entry: Entry = {
            "network": self.network,
            "processes": self.processes,
            "files": dict(self.files),
            "sockets": [*self.sockets, *_USERS, *_agents(env)],
        }
        return [*python, "-c", _USHER, json.dumps(entry)]


#: the host's own network, for who has declared that
HOST = Station(is_host=True)
#: no network at all
SEALED = Station()


def _agents(env: Mapping[str, str]) -> list[str]:
    """Sockets of the agents that hold the user's keys, which lead nowhere."""
    agents = [env["SSH_AUTH_SOCK"]] if env.get("SSH_AUTH_SOCK") else []
    homes = [env.get("GNUPGHOME") or f"{env.get('HOME', '')}/.gnupg"]
    return [*agents, *homes, f"/run/user/{os.getuid()}/gnupg"]


def way_out(message: str) -> str:
    """What to do where a task has met with a sealed network; empty: it has not."""
    if not _UNREACHED.search(message):
        return ""
    return (
        "nothing leads out of a layout, from its machines or from 'localhost'; try: "
        'outside=["host:port"] for what Ansible itself is to reach, layout.gate() for a machine'
    )
