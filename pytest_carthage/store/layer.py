"""One layer: its files, and what is known of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["META", "Layer", "LayerMeta"]

#: file beside a layer's tree that has what is known of it
META = "layer.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerMeta:
    """What is known of a layer."""

    key: str
    parent: str | None
    #: "base", "packages", "task" or "file"
    kind: str
    title: str
    role: str = ""
    #: what history shows
    command: str = ""
    #: files of the host that were read, to the SHA-256 of what they were
    inputs: Mapping[str, str] = field(default_factory=dict)
    #: key of what was declared, on top of what is below
    declared: str = ""
    #: seconds since the epoch, and those that it took
    made_at: float = 0.0
    seconds: float = 0.0
    #: bytes on disk
    size: int = 0
    #: name to version of all packages that are there; None: the same as below
    packages: Mapping[str, str] | None = field(default=None, repr=False)
    #: what a base says beside its files: command, env, labels, user, workdir
    config: Mapping[str, Any] = field(default_factory=dict)
    #: what a base was made of
    digest: str = ""

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> LayerMeta:
        """Take it from a record; fields that are not of this version are left out.

        :raises TypeError: one is missing.
        """
        return cls(**{name: record[name] for name in cls.__dataclass_fields__ if name in record})

    @classmethod
    def load(cls, folder: Path) -> LayerMeta | None:
        """Read that of a layer's folder; None: the folder is no complete layer."""
        try:
            return cls.of(json.loads((folder / META).read_text()))
        except (OSError, ValueError):
            return None

    def save(self, folder: Path) -> None:
        """Write it beside a layer's tree."""
        (folder / META).write_text(json.dumps(asdict(self), indent=1))


@dataclass(frozen=True, slots=True)
class Layer:
    """A complete layer."""

    path: Path
    meta: LayerMeta

    @property
    def key(self) -> str:
        """Content key."""
        return self.meta.key

    @property
    def tree(self) -> Path:
        """Its files, as an upper directory of an overlay."""
        return self.path / "tree"
