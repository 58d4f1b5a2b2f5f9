"""A lease: a host is one run's at a time, by a mark that lies on the host itself.

The mark is a symbolic link that leads nowhere, whose target is the record: it is made in one step
or not at all, can be read whole, and takes no space of a file. It lies in ``/run/lock`` where
everybody can write, and else in ``/tmp``. Times are those of the host's own clock.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_carthage import clock

__all__ = [
    "BREAK",
    "LOOK",
    "MARK",
    "RELEASE",
    "RENEW",
    "TAKE",
    "Lease",
    "boot_of",
    "here",
    "state_of",
]

_AT = """\
export LC_ALL=C
at=/run/lock; [ -d "$at" ] && [ -k "$at" ] && [ -w "$at" ] || at=/tmp
at=$at/pytest-carthage.lease
boot=$(cat /proc/sys/kernel/random/boot_id 2> /dev/null)
is_ours() { case $(readlink "$at") in *"\\"id\\": \\"$1\\""*) return 0 ;; esac; return 1; }
put() { ln -sn -- "$1" "$at.$$" && mv -f -- "$at.$$" "$at"; }
tell() { if [ -L "$at" ]; then echo "held $(date +%s) $(readlink "$at")"; else echo free; fi; }
"""
#: $1: record, $2: seconds, $3: what lies there and is to be replaced, or nothing
TAKE = (
    _AT
    + """\
if [ -n "$3" ] && mv -- "$at" "$at.$$" 2> /dev/null; then
    moved=$(readlink "$at.$$"); rm -f -- "$at.$$"
    [ "$moved" = "$3" ] || ln -sn -- "$moved" "$at" 2> /dev/null
fi
said=$(ln -sn -- "$(($(date +%s) + $2)) $1" "$at" 2>&1) && { echo "taken $boot"; exit 0; }
[ -L "$at" ] || { echo "$said" >&2; exit 1; }
tell
"""
)
#: $1: id, $2: record, $3: seconds, $4: the boot in which it was laid down: what is gone since then
#: in another one was taken by nobody
RENEW = (
    _AT
    + """\
until=$(($(date +%s) + $3))
if is_ours "$1"; then put "$until $2" && echo "taken $boot"
elif [ "$boot" != "$4" ] && ln -sn -- "$until $2" "$at" 2> /dev/null; then echo "taken $boot"
else tell; fi
"""
)
#: $1: id
RELEASE = _AT + 'if is_ours "$1"; then rm -f -- "$at" && echo released; else tell; fi\n'
#: $1: id, $2: record of the mark; others have a lease of their own
MARK = _AT + 'if [ ! -L "$at" ] || is_ours "$1"; then put "0 $2" && echo taken; else tell; fi\n'
LOOK = _AT + "tell\n"
#: $1: what lies there
BREAK = (
    _AT
    + """\
if [ "$(readlink "$at")" = "$1" ]; then rm -f -- "$at" && echo released; else tell; fi
"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """What lies on a host: whose it is, or why it is not to be used."""

    #: as it lies there
    text: str
    #: seconds until it ends by itself; below 0: it has ended
    left_s: float
    record: Mapping[str, Any]

    @property
    def owner(self) -> str:
        """Who has taken it, for a person."""
        return str(self.record.get("owner", "somebody"))

    @property
    def mark(self) -> str:
        """Why the host is not as it should be; empty: nothing is known of that."""
        return str(self.record.get("mark", ""))

    def __str__(self) -> str:
        if self.mark:
            return f"marked by {self.owner}: {self.mark}"
        if self.is_dead:
            return f"was not given back by {self.owner}, whose run is dead"
        return f"in use by {self.owner}, for {self.left_s:.0f} s unless it is renewed"

    @property
    def is_dead(self) -> bool:
        """Whether who has taken it is gone: its time is over, or its process was of this host."""
        if self.left_s < 0:
            return True
        holder = self.record.get("holder") or {}
        own = here(0)
        if any(holder.get(key) != own[key] for key in ("boot", "processes")):
            return False
        return _began(int(holder.get("pid", 0))) != holder.get("began")


def state_of(said: str) -> Lease | None:
    """What a script has told of what lies there; None: nothing does, or it is ours.

    :raises ValueError: it has told something else.
    """
    word, _, rest = said.strip().partition(" ")
    if word in ("taken", "released", "free"):
        return None
    now, _, text = rest.partition(" ")
    if word != "held":
        raise ValueError(f"it printed {said[:200]!r}")
    until, _, record = text.partition(" ")
    try:
        values = json.loads(record)
        left_s = float(until) - float(now)
    except ValueError:
        return Lease(text=text, left_s=float("inf"), record={"owner": text[:200]})
    return Lease(text=text, left_s=left_s, record=values if isinstance(values, dict) else {})


def boot_of(said: str) -> str:
    """The boot of the host's in which a script has laid down a lease; empty: it tells none."""
    return said.strip().partition(" ")[2]


def here(pid: int) -> dict[str, Any]:
    """What a process of this host is known by."""
    return {
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "processes": os.stat("/proc/self/ns/pid").st_ino,  # noqa: PTH116
        "pid": pid,
        "began": _began(pid),
    }


def _began(pid: int) -> str | None:
    """When a process began, in ticks since boot (proc_pid_stat(5)); None: there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def record(identity: str, owner: str, *, pid: int) -> str:
    """The record of a lease, as it is laid down."""
    values = {
        "id": identity,
        "owner": f"{owner} on {socket.gethostname()}",
        "since": int(clock.unix_s()),
        "holder": here(pid),
    }
    return json.dumps(values)


def mark(identity: str, owner: str, why: str) -> str:
    """The record of a host that is not as it should be."""
    values = {"id": identity, "owner": owner, "since": int(clock.unix_s()), "mark": why[:1000]}
    return json.dumps(values)
