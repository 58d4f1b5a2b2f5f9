"""The journal: what is about to exist, written before it does. One JSON object per line.

Standard library only: the supervisor writes and reads it, too. A line that was cut off by a
crash is the last one and is ignored; what it would have announced was never begun.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

Entry = dict[str, Any]


class Journal:
    """Appends to ``journal.jsonl`` of a run."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def fileno(self) -> int:
        """Descriptor of the file."""
        return self._fd

    def write(self, entry: Entry) -> None:
        """Append an entry; it is with the kernel when this returns."""
        os.write(self._fd, json.dumps(entry, separators=(",", ":")).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def read(path: Path) -> list[Entry]:
    """All whole entries, oldest first; none where there is no journal."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    entries = []
    for line in lines:
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
    return entries


def outstanding(entries: list[Entry], environment: str | None = None) -> list[Entry]:
    """Identities that were intended and not yet destroyed, newest first."""
    alive: dict[str, Entry] = {}
    for entry in entries:
        if entry["op"] == "intent":
            alive[json.dumps(entry["identity"], sort_keys=True)] = entry["identity"]
        elif entry["op"] == "destroyed":
            alive.pop(json.dumps(entry["identity"], sort_keys=True), None)
    found = list(reversed(alive.values()))
    if environment is not None:
        found = [identity for identity in found if identity["environment"] == environment]
    return found
