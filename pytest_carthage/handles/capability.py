"""What a live machine can be asked for, by name: what a target lacks is refused by name, too."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Literal

__all__ = ["CAPABILITIES", "OF_SOCKETS", "OPERATIONS", "Capability", "lacking"]

Capability = Literal[
    "run",
    "files",
    "connect",
    "echo",
    "socket",
    "listening",
    "observe",
    "logs",
    "power",
    "freeze",
    "links",
    "limits",
    "command",
    "console",
    "screen",
    "snapshots",
    "reset",
    "plug",
]

#: capability to words that follow "cannot"
CAPABILITIES: Mapping[Capability, str] = MappingProxyType(
    {
        "run": "run commands in machines",
        "files": "read and write files of machines",
        "connect": "connect from inside of machines",
        "echo": "send ICMP echoes from inside of machines",
        "socket": "give sockets of a machine's network",
        "listening": "tell what listens in a machine",
        "observe": "look into machines",
        "logs": "tell what a machine printed",
        "power": "switch machines off and on",
        "freeze": "freeze machines",
        "links": "put machines on networks of a layout",
        "limits": "limit machines",
        "command": "start a command as a machine's main process",
        "console": "attach to consoles of machines",
        "screen": "show screens of machines, or type at them",
        "snapshots": "take snapshots of machines, or go back to them",
        "reset": "press reset buttons of machines",
        "plug": "plug disks and cards into machines that run",
    }
)

#: capability to the operations that a machine's endpoint has for it
OPERATIONS: Mapping[Capability, frozenset[str]] = MappingProxyType(
    {
        "run": frozenset({"run", "wait", "kill"}),
        "files": frozenset({"open", "stat", "listdir", "mkdirs", "symlink", "chmod", "chown"}),
        "connect": frozenset({"connect"}),
        "echo": frozenset({"echo"}),
        "socket": frozenset({"socket"}),
        "listening": frozenset({"listening"}),
        "observe": frozenset({"observe"}),
    }
)

#: what whoever gives sockets of a machine's network can do, too
OF_SOCKETS: frozenset[Capability] = frozenset({"connect", "echo"})


def lacking(operations: Collection[str]) -> frozenset[Capability]:
    """What an endpoint cannot be asked for, by the operations that it says it has.

    Whoever gives sockets of a machine's network can connect and ping from there, too.
    """
    lacks = {name for name, needed in OPERATIONS.items() if not needed <= set(operations)}
    if "socket" not in lacks:
        lacks -= OF_SOCKETS
    return frozenset(lacks)
