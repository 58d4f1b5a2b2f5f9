"""What is kept of images on this host: finding one by what a person calls it, and who uses it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pytest_carthage.errors import BuildError
from pytest_carthage.images.store import Broken, Built, ImageRecord, Layer, Store
from pytest_carthage.model.image import Healthcheck, Image, ImageConfig
from pytest_carthage.model.place import Place

__all__ = ["SHORT", "Building", "Inventory", "Kept", "User", "bytes_of", "recall", "users_of"]

#: digits of a key that people read
SHORT = 12

_TRIES = 5
_PAUSE_S = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A process that uses an image."""

    #: None: it is in another container, and has no number here
    pid: int | None
    #: what it was started as; empty: not known
    command: str = ""

    def __str__(self) -> str:
        if self.pid is None:
            return "a process that cannot be seen from here"
        return f"process {self.pid}{f' ({self.command})' if self.command else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An image that was built."""

    record: ImageRecord
    #: as far as they are there, the base first
    layers: tuple[Layer, ...]
    #: bytes of layers that no other image has, and of the others
    own: int
    shared: int

    @property
    def short(self) -> str:
        """Beginning of its key."""
        return self.record.key[:SHORT]

    @property
    def is_complete(self) -> bool:
        """Whether all its layers are there."""
        return len(self.layers) == len(self.record.layers)

    @property
    def top(self) -> str:
        """Key of its top layer."""
        return self.record.layers[-1] if self.record.layers else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Building:
    """A build that is going on now."""

    #: of its lock: what is declared of the layer
    key: str
    #: name of the image; empty: not known
    image: str
    #: how far it is
    text: str
    pid: int | None


class Inventory:
    """What there is, when it was looked at."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.layers: Mapping[str, Layer] = {layer.key: layer for layer in store.layers()}
        self.broken = store.broken()
        records = store.records()
        #: in how many images a layer is
        self.times = Counter(key for record in records for key in record.layers)
        #: the last used first
        self.images = [self._kept(record) for record in records]

    def _kept(self, record: ImageRecord) -> Kept:
        layers = [self.layers[key] for key in record.layers if key in self.layers]
        own = sum(self.sizes[layer.key] for layer in layers if self.times[layer.key] == 1)
        return Kept(
            record=record,
            layers=tuple(layers),
            own=own,
            shared=sum(self.sizes[layer.key] for layer in layers) - own,
        )

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Bytes on disk of each layer, with what is kept beside its files."""
        return {key: bytes_of(layer) for key, layer in self.layers.items()}

    @property
    def unnamed(self) -> list[Layer]:
        """Layers that are in no image, and below no broken build."""
        below = {key for one in self.broken for key in one.layers}
        return [
            layer for key, layer in self.layers.items() if not self.times[key] and key not in below
        ]

    def find(self, name: str) -> list[Kept]:
        """Images that a person may mean: by name or tag, else by the beginning of a key."""
        for matches in (
            [one for one in self.images if name in (one.record.name, one.record.tag)],
            [one for one in self.images if one.record.key.startswith(name)],
            [one for one in self.images if one.top.startswith(name)],
        ):
            if matches:
                return matches
        return []

    def find_broken(self, name: str) -> Broken | None:
        """The broken build that a person may mean."""
        for one in self.broken:
            if name in (one.name, one.image):
                return one
        return None

    def building(self) -> list[Building]:
        """Builds that are going on."""
        found = []
        holders = _holders()
        for path in sorted(self.store.folder("locks").glob("*.lock")):
            with contextlib.suppress(OSError):
                text, image, *_ = [*path.read_text(errors="replace").split("\n"), "", ""]
                pids = holders.get(_identity(path.stat()), [])
                if any(how == "WRITE" for how, _ in pids) or (text and _is_taken(path)):
                    pid = next((pid for _, pid in pids if pid > 0), None)
                    found.append(Building(key=path.stem, image=image, text=text, pid=pid))
        return found


def users_of(store: Store, key: str) -> list[User]:
    """Who uses an image, by its top layer; nobody where it is not there.

    The kernel tells who has locked it, see proc_locks(5).
    """
    path = store.folder("layers") / key
    for _ in range(_TRIES):
        try:
            with store.alone(key) as is_alone:
                if is_alone:
                    return []
            known = _holders().get(_identity(path.stat()), [])
        except FileNotFoundError:
            return []
        pids = sorted({pid for how, pid in known if how == "READ"})
        if pids:
            return [User(pid=pid if pid > 0 else None, command=_command(pid)) for pid in pids]
        # somebody else just looks, or removes it
        time.sleep(_PAUSE_S)
    return [User(pid=None)]


def bytes_of(layer: Layer) -> int:
    """Bytes of a layer on disk, with what is kept beside its files."""
    return layer.meta.size + files_in(layer.path)


def files_in(folder: Path) -> int:
    """Bytes on disk of the files of a folder, without folders in it."""
    found = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                found += entry.stat(follow_symlinks=False).st_blocks * 512
    return found


# built images, from what is remembered of them


@dataclass(frozen=True, slots=True, kw_only=True)
class _Remembered(Image):
    """An image of which its name and result are known, and not how it was declared."""

    recorded: str = ""

    @property
    def key(self) -> str:
        return self.recorded


def recall(store: Store, record: ImageRecord) -> Built:
    """A built image, held by the store; what its declaration was is not known.

    :raises BuildError: it is no longer there.
    """
    top = record.layers[-1] if record.layers else ""
    layers = store.chain(top) if top and store.hold(top) else None
    if layers is None:
        raise BuildError(
            f"image {record.name!r} ({record.key[:SHORT]}): some of its layers are gone; "
            "try: pytest-carthage images build"
        )
    config = _config(record.config or layers[0].meta.config)
    image = _Remembered(
        kind="rootfs",
        name=record.name,
        tag=record.tag,
        config=config,
        recorded=record.key,
        place=Place(file="", line=0),
    )
    return Built(image=image, layers=layers, config=config, store=store)


def _config(told: Mapping[str, Any]) -> ImageConfig:
    check = told.get("healthcheck")
    if check is not None:
        check = Healthcheck(**{**check, "command": tuple(check["command"])})
    return replace(
        ImageConfig(),
        command=tuple(told["command"]) if told.get("command") else None,
        env=_pairs(told.get("env")),
        labels=_pairs(told.get("labels")),
        user=told.get("user") or "",
        workdir=told.get("workdir") or "",
        healthcheck=check,
    )


def _pairs(told: Mapping[str, str] | Sequence[Sequence[str]] | None) -> tuple[tuple[str, str], ...]:
    rows: Iterable[Sequence[str]] = told.items() if isinstance(told, Mapping) else told or ()
    return tuple((name, value) for name, value in rows)


# locks


def _holders() -> dict[tuple[int, int, int], list[tuple[str, int]]]:
    """Device and inode to how it is locked (READ or WRITE) and by which process."""
    found: dict[tuple[int, int, int], list[tuple[str, int]]] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if len(words) < 6 or words[1] != "FLOCK":  # "->" stands before who waits
                continue
            major, minor, inode = words[5].split(":")
            place = int(major, 16), int(minor, 16), int(inode)
            found.setdefault(place, []).append((words[3], int(words[4])))
    return found


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    return os.major(status.st_dev), os.minor(status.st_dev), status.st_ino


def _is_taken(path: Path) -> bool:
    """Whether somebody builds under a lock, where the kernel's list may not show it."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _command(pid: int) -> str:
    """What a process was started as, cut short."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return ""
    text = " ".join(" ".join(words).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
