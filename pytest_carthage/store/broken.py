"""Builds that failed and were kept for a look."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_carthage import clock
from pytest_carthage.store import disk

__all__ = ["BrokenBuild", "BrokenBuilds"]

_NAME = "broken.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenBuild:
    """A build that failed, with the files as its task has left them."""

    path: Path
    #: name of the image
    image: str
    #: the task that failed
    title: str
    #: keys of the layers below, the base first
    layers: tuple[str, ...]
    error: str
    #: seconds since the epoch
    at: float

    @property
    def name(self) -> str:
        """What it is called."""
        return self.path.name

    @property
    def tree(self) -> Path:
        """What the task has changed, as an upper directory of an overlay."""
        return self.path / "tree"


class BrokenBuilds:
    """Broken builds: a folder each, one for each image."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __iter__(self) -> Iterator[BrokenBuild]:
        """All of them, the last first."""
        builds = [
            build for path in self.folder.glob(f"*/{_NAME}") if (build := _load(path)) is not None
        ]
        return iter(sorted(builds, key=lambda build: -build.at))

    def tops(self) -> set[str]:
        """Keys of the layers on which broken builds stand."""
        return {build.layers[-1] for build in self if build.layers}

    def keep(
        self, work: Path, name: str, *, image: str, title: str, layers: Sequence[str], error: str
    ) -> None:
        """Keep the folder that a build has worked in, in place of an older one of that name."""
        record = {
            "image": image,
            "title": title,
            "layers": list(layers),
            "error": error,
            "at": clock.unix_s(),
        }
        (work / _NAME).write_text(json.dumps(record))
        disk.delete(self.folder / name)
        work.rename(self.folder / name)


def _load(path: Path) -> BrokenBuild | None:
    try:
        record = json.loads(path.read_text())
        return BrokenBuild(
            path=path.parent,
            image=record["image"],
            title=record["title"],
            layers=tuple(record["layers"]),
            error=record["error"],
            at=record["at"],
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
