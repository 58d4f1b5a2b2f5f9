"""Folders as runs leave them whose supervisor was killed."""

from __future__ import annotations

from pathlib import Path

from pytest_carthage.provider import Identity
from pytest_carthage.state import journal
from pytest_carthage.state.entries import as_entry
from pytest_carthage.state.journal import Journal

__all__ = ["DeadRun"]


class DeadRun:
    """A run whose supervisor is gone, with one environment."""

    def __init__(self, state: Path, name: str = "dead", *, run_id: str = "abc123") -> None:
        self.id = run_id
        self.environment = f"{name}-shop"
        self.folder = state / "runs" / name
        (self.folder / "envs" / self.environment / "logs").mkdir(parents=True)
        (self.folder / "id").write_text(run_id)
        (self.folder / "lock").write_text("999999")
        self._book = Journal(self.journal)
        self._book.write("intent", journal.fabric(run_id, self.environment))

    @property
    def journal(self) -> Path:
        return self.folder / "journal.jsonl"

    def identity(self, name: str, *, kind: str = "hut", **detail: str) -> Identity:
        plain = Identity(
            kind=kind, run=self.id, environment=self.environment, name=name, outside=True
        )
        return plain.with_detail(**detail)

    def intend(self, identity: Identity) -> Identity:
        self._book.write("intent", as_entry(identity))
        return identity

    def fail(self, identity: Identity, error: str, *, at: float = 1000.0) -> None:
        self._book.write("failed", as_entry(identity), error=error, at=at)

    def damage(self, name: str) -> None:
        """Overwrite what the journal says of a thing."""
        lines = self.journal.read_bytes().splitlines(keepends=True)
        nothing = [b"\0" * (len(line) - 1) + b"\n" for line in lines]
        damaged = [
            zeros if name.encode() in line else line
            for line, zeros in zip(lines, nothing, strict=True)
        ]
        assert damaged != lines
        self.journal.write_bytes(b"".join(damaged))
