"""The journal: what is about to exist, written before it does. One JSON object per line.

Standard library only: the supervisor writes and reads it, too. Each entry has ``op`` and
``identity``:

==============  ===========================================  =======================
``intent``      it may exist from now on, or more is known
``failed``      it could not be destroyed                    error: text, at: UNIX time
``destroyed``   it is gone
==============  ===========================================  =======================

A line that was cut off by a crash is ignored: what it would have announced was never begun.
"""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_carthage.fabric.host import folders

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

Entry = dict[str, Any]

_FIELDS = ("kind", "run", "environment", "name")


class Journal:
    """Appends to ``journal.jsonl`` of a run."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        size = os.fstat(self._fd).st_size
        #: whether the last line has an end; what comes after one that was cut off begins anew
        self._is_whole = size == 0 or os.pread(self._fd, 1, size - 1) == b"\n"

    def fileno(self) -> int:
        """Descriptor of the file."""
        return self._fd

    def write(self, op: str, identity: Entry, **more: object) -> None:
        """Append an entry; it is with the kernel when this returns.

        What outlives the fabric would outlive a crash of this host: such an entry is on its disk.

        :raises OSError: there is no room for it; nothing was written that counts.
        """
        entry = {"op": op, "identity": identity, **more}
        line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
        if not self._is_whole:
            line = b"\n" + line
        written = os.write(self._fd, line)
        self._is_whole = written == len(line)
        if not self._is_whole:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if identity.get("outside"):
            os.fdatasync(self._fd)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class Failure(NamedTuple):
    """Why something is not destroyed yet."""

    identity: Entry
    #: of the last try
    error: str
    #: UNIX time of the last try
    at: float
    #: how often it was tried
    tries: int


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []


def _entry(line: bytes) -> Entry | None:
    """What a line says; None: it cannot be read."""
    try:
        entry = json.loads(line)
        check(entry["identity"])
        entry["identity"]["outside"] = bool(entry["identity"].get("outside"))
        return entry if isinstance(entry["op"], str) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def check(identity: Any) -> None:
    """Refuse what is no identity.

    :raises ValueError: it is none.
    """
    try:
        dict(identity["detail"])
        is_whole = all(isinstance(identity[field], str) for field in _FIELDS)
    except (KeyError, TypeError, ValueError):
        is_whole = False
    # without an environment: whatever a target knows of
    if not is_whole or (identity["environment"] and not folders.is_name(identity["environment"])):
        raise ValueError(f"no identity: {identity!r:.200}")


def read(path: Path) -> list[Entry]:
    """All entries that can be read, oldest first; none where there is no journal."""
    return [entry for line in _lines(path) if (entry := _entry(line)) is not None]


def is_damaged(path: Path) -> bool:
    """Whether a journal does not tell all: it is gone, or has a whole line that says nothing."""
    lines = _lines(path)
    return not lines or any(
        line.strip() and line.endswith(b"\n") and _entry(line) is None for line in lines
    )


def fabric(run: str, environment: str) -> Entry:
    """What an environment itself is called: its fabric, and what that leaves on this host."""
    return {
        "kind": "fabric",
        "run": run,
        "environment": environment,
        "name": environment,
        "detail": [],
        "outside": False,
    }


def thing(identity: Entry) -> tuple[str, ...]:
    """What tells one thing from all others, whatever is known of it."""
    return tuple(identity[field] for field in _FIELDS)


def title(identity: Entry) -> str:
    """What a thing is called, as in ``cloud ci-shop/web (id=i-3f2a)``."""
    if identity["kind"] == "fabric":
        return f"environment {identity['environment']}"
    if not identity["name"]:
        return f"whatever target {identity['kind']!r} knows of"
    detail = ", ".join(f"{key}={value}" for key, value in identity["detail"])
    name = f"{identity['kind']} {identity['environment']}/{identity['name']}"
    return f"{name} ({detail})" if detail else name


def outstanding(entries: Iterable[Entry], environment: str | None = None) -> list[Entry]:
    """Identities that were intended and not yet destroyed, newest first.

    A thing that was intended twice, as is done once more is known of it, has the details of both.
    """
    alive: dict[tuple[str, ...], Entry] = {}
    for entry in entries:
        identity = entry["identity"]
        if entry["op"] == "intent":
            former = alive.get(thing(identity)) or identity
            detail = {**dict(former["detail"]), **dict(identity["detail"])}
            alive[thing(identity)] = {
                **identity,
                "detail": [list(pair) for pair in detail.items()],
            }
        elif entry["op"] == "destroyed":
            alive.pop(thing(identity), None)
    return [
        identity
        for identity in reversed(alive.values())
        if environment in (None, identity["environment"])
    ]


def failures(entries: Iterable[Entry]) -> Iterator[Failure]:
    """What was tried to be destroyed and is outstanding all the same, newest first."""
    entries = list(entries)
    tried: dict[tuple[str, ...], list[Entry]] = {}
    for entry in entries:
        if entry["op"] == "failed":
            tried.setdefault(thing(entry["identity"]), []).append(entry)
        elif entry["op"] == "destroyed":
            tried.pop(thing(entry["identity"]), None)
    for identity in outstanding(entries):
        if tries := tried.get(thing(identity)):
            last = tries[-1]
            yield Failure(identity, str(last.get("error")), float(last.get("at", 0)), len(tries))
