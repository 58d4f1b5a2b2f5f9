"""Images that were built, by what people call them."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pytest_carthage.fabric.host import folders
from pytest_carthage.model.image import Healthcheck, ImageConfig
from pytest_carthage.store.disk import write_atomically

__all__ = ["ImageRecord", "Records", "config_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """An image that was built, by what people call it."""

    #: key of its declaration
    key: str
    name: str
    tag: str | None
    #: keys of its layers, the base first
    layers: tuple[str, ...]
    built_at: float
    #: when a run last asked for it
    used_at: float
    #: what it says beside its files, its base included, see ``model.image.ImageConfig``
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def top(self) -> str:
        """Key of its top layer; empty: it has none."""
        return self.layers[-1] if self.layers else ""


class Records:
    """Records of images: a file each, named by the key of the declaration.

    When a run last asked for an image is the time of its file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        """The file of an image."""
        return self.folder / f"{key}.json"

    def get(self, key: str) -> ImageRecord | None:
        """The record of an image; None: there is none, or it is damaged."""
        return _load(self.path(key))

    def __iter__(self) -> Iterator[ImageRecord]:
        """All of them, the last used first."""
        records = [
            record for path in self.folder.glob("*.json") if (record := _load(path)) is not None
        ]
        return iter(sorted(records, key=lambda record: -record.used_at))

    def damaged(self) -> list[Path]:
        """Files that say nothing of an image."""
        return [path for path in sorted(self.folder.glob("*.json")) if _load(path) is None]

    def tops(self) -> set[str]:
        """Keys of the layers that images have on top."""
        return {record.top for record in self if record.layers}

    def keep(self, record: ImageRecord) -> None:
        """Remember an image; where it is known already, that it was asked for now."""
        path = self.path(record.key)
        before = _load(path)
        if before is not None and before.layers == record.layers and before.name == record.name:
            with contextlib.suppress(FileNotFoundError):  # somebody has just forgotten it
                os.utime(path)
                return
        write_atomically(path, json.dumps(asdict(record)))

    def remove(self, key: str) -> None:
        """Forget an image; nothing to forget is no error."""
        self.path(key).unlink(missing_ok=True)


def _load(path: Path) -> ImageRecord | None:
    try:
        record = json.loads(path.read_bytes())
        used_at = path.stat().st_mtime
        if not _is_whole(record) or record["key"] != path.stem:
            return None
        config_of(record.get("config") or {})
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    fields = {name: record[name] for name in ImageRecord.__dataclass_fields__ if name in record}
    return ImageRecord(**{**fields, "layers": tuple(record["layers"]), "used_at": used_at})


def _is_whole(record: Any) -> bool:
    return (
        all(isinstance(record[name], str) for name in ("key", "name"))
        and isinstance(record["tag"], str | None)
        and isinstance(record["built_at"], int | float)
        and isinstance(record["layers"], list)
        and all(map(folders.is_name, record["layers"]))  # each is one
    )


def config_of(record: Mapping[str, Any]) -> ImageConfig:
    """What an image says beside its files, as it is remembered of it or of its base."""
    check = record.get("healthcheck")
    if check is not None:
        check = Healthcheck(**{**check, "command": tuple(check["command"])})
    return ImageConfig(
        command=tuple(record["command"]) if record.get("command") else None,
        env=_pairs(record.get("env")),
        labels=_pairs(record.get("labels")),
        user=record.get("user") or "",
        workdir=record.get("workdir") or "",
        healthcheck=check,
        stop_signal=record.get("stop_signal") or "",
        volumes=tuple(record.get("volumes") or ()),
    )


def _pairs(
    listed: Mapping[str, str] | Sequence[Sequence[str]] | None,
) -> tuple[tuple[str, str], ...]:
    rows: Iterable[Sequence[str]] = listed.items() if isinstance(listed, Mapping) else listed or ()
    return tuple((name, value) for name, value in rows)
