"""One layer: its files, and what is known of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

__all__ = ["FETCHED", "META", "Layer", "LayerMeta"]

#: file beside a layer's tree that has what is known of it
META = "layer.json"
#: disk beside the tree of a layer, where it has the files of one that was fetched
FETCHED = "disk"


_Kinds: TypeAlias = type | tuple[type, ...]
_NONE = type(None)
#: what a field may be in a record
_KINDS: Mapping[str, _Kinds] = {
    **dict.fromkeys(
        ("key", "kind", "title", "role", "command", "declared", "digest", "census", "origin"), str
    ),
    **dict.fromkeys(("inputs", "config"), dict),
    **dict.fromkeys(("made_at", "seconds"), (int, float)),
    **dict.fromkeys(("size", "entries"), int),
    "parent": (str, _NONE),
    "packages": (dict, _NONE),
}


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

    #: of its files, see :mod:`.census`; empty: none was taken
    census: str = ""
    #: how many there are
    entries: int = 0
    #: where it was built, if not here; empty: here
    origin: str = ""

    @classmethod
    def of(cls, record: object) -> LayerMeta:
        """Take it from a record; fields that are not of this version are left out.

        :raises ValueError: something in it is not as it has to be.
        """
        if not isinstance(record, Mapping):
            raise ValueError(f"it is {type(record).__name__}, and no object")
        for name in ("key", "kind", "title"):
            if name not in record:
                raise ValueError(f"it has no {name!r}")
        if "parent" not in record:
            raise ValueError("it has no 'parent'")
        for name, kinds in _KINDS.items():
            if name in record and not isinstance(record[name], kinds):
                raise ValueError(f"its {name!r} is {type(record[name]).__name__}")
        for name in ("inputs", "packages"):
            texts = record.get(name) or {}
            if not all(isinstance(value, str) for value in texts.values()):
                raise ValueError(f"its {name!r} has something that is no text")
        return cls(**{name: record[name] for name in cls.__dataclass_fields__ if name in record})

    @classmethod
    def read(cls, folder: Path) -> LayerMeta:
        """Read that of a layer's folder.

        :raises OSError: it cannot be read.
        :raises ValueError: the folder is no complete layer.
        """
        try:
            meta = cls.of(json.loads((folder / META).read_bytes()))
            if meta.key != folder.name:
                raise ValueError(f"it is of {meta.key!r}")
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{META}: {error}") from error
        if not (folder / "tree").is_dir():
            raise ValueError("its files are gone")
        return meta

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
    def disk(self) -> Path:
        """The disk that it has the files of, where that was fetched for it."""
        return self.path / FETCHED

    @property
    def tree(self) -> Path:
        """Its files, as an upper directory of an overlay."""
        return self.path / "tree"
