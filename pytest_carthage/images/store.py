"""Where layers are kept: folders on this host, one for each content key.

A layer is complete once its folder has the name of its key; it is made elsewhere and renamed.
Whoever uses an image holds a shared lock (flock(2)) on the folder of its top layer, which ends
with the process. Only layers that no other stands on, and that nobody has locked, are removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import subprocess
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.errors import BuildError

if TYPE_CHECKING:
    from pytest_carthage.model.image import Image, ImageConfig

__all__ = ["Broken", "Built", "ImageRecord", "Layer", "LayerMeta", "Store", "images_root"]

_POLL_S = 0.05


def images_root() -> Path:
    """Folder of the images of this user: ``$CARTHAGE_IMAGES``, or the system's place for data."""
    chosen = os.environ.get("CARTHAGE_IMAGES")
    if chosen:
        return Path(chosen).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/pytest-carthage/images")
    base = Path(os.environ.get("XDG_DATA_HOME") or Path("~/.local/share").expanduser())
    if not base.is_absolute():  # no home at all
        base = Path(f"/tmp/pytest-carthage-{os.geteuid()}")
    return base / "pytest-carthage" / "images"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An image that exists."""

    image: Image
    #: the base first
    layers: tuple[Layer, ...]
    #: of the base and of the image together
    config: ImageConfig
    store: Store

    @property
    def lower(self) -> tuple[Path, ...]:
        """Trees of the layers as overlayfs takes them: the top first."""
        return tuple(layer.tree for layer in reversed(self.layers))

    @property
    def packages(self) -> Mapping[str, str]:
        """Name to version of the packages that are there; empty: not known."""
        for layer in reversed(self.layers):
            if layer.meta.packages is not None:
                return layer.meta.packages
        return {}


class Store:
    """The layers of this user on this host."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or images_root()
        #: descriptors that hold layers in use, by key
        self._held: dict[str, int] = {}
        #: of layers that are known, what they stand on; it never changes
        self._parents: dict[str, str | None] = {}
        # who forgets the store, and every image of it, uses none of its layers any more
        weakref.finalize(self, _close_all, self._held)

    def prepare(self) -> None:
        """Make its folders, for this user alone.

        :raises BuildError: they cannot be made.
        """
        try:
            self.root.mkdir(mode=0o711, parents=True, exist_ok=True)
            for name in ("layers", "names", "results", "locks", "work", "broken", "apt"):
                self.folder(name).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise BuildError(
                f"images are kept in {self.root}: {error.strerror}; "
                "try: set CARTHAGE_IMAGES to a folder of your own"
            ) from error

    def folder(self, name: str) -> Path:
        """One of its folders: layers, names, results, locks, work, broken, apt."""
        return self.root / name

    # layers

    def layer(self, key: str) -> Layer | None:
        """A complete layer; None: there is none."""
        path = self.folder("layers") / key
        try:
            told = json.loads((path / "layer.json").read_text())
        except (OSError, ValueError):
            return None
        return Layer(path, _meta(told))

    def layers(self) -> list[Layer]:
        """All complete layers."""
        with contextlib.suppress(FileNotFoundError):
            names = sorted(entry.name for entry in os.scandir(self.folder("layers")))
            return [layer for name in names if (layer := self.layer(name)) is not None]
        return []

    def chain(self, key: str) -> tuple[Layer, ...] | None:
        """A layer with all below it, the base first; None: one is missing."""
        found: list[Layer] = []
        wanted: str | None = key
        while wanted is not None:
            layer = self.layer(wanted)
            if layer is None:
                return None
            found.append(layer)
            wanted = layer.meta.parent
        return tuple(reversed(found))

    def commit(self, work: Path, meta: LayerMeta) -> Layer:
        """Make a layer of a folder that has a ``tree``."""
        (work / "layer.json").write_text(json.dumps(asdict(meta), indent=1))
        path = self.folder("layers") / meta.key
        with contextlib.suppress(FileExistsError, OSError):
            work.rename(path)
        layer = self.layer(meta.key)
        if layer is None:
            raise BuildError(f"layer {meta.key} could not be kept in {path.parent}")
        if work.exists():  # another process was faster
            self.delete(work)
        return layer

    def hold(self, key: str) -> bool:
        """Keep others from removing a layer while this store is in use; False: it is gone."""
        if key in self._held:
            return True
        fd = self.take(key)
        if fd is None:
            return False
        self._held[key] = fd
        return True

    def take(self, key: str) -> int | None:
        """Keep others from removing a layer until the descriptor is closed; None: it is gone."""
        return self.guard(self.folder("layers") / key)

    def guard(self, folder: Path) -> int | None:
        """Keep others from removing a folder, wherever it is moved; None: it is gone."""
        return _locked_folder(folder, fcntl.LOCK_SH)

    def release(self) -> None:
        """Let go of all that was held."""
        _close_all(self._held)

    @contextlib.contextmanager
    def alone(self, key: str) -> Iterator[bool]:
        """Keep others from beginning to use a layer while the block runs.

        It is given whether that is so: False if somebody uses it, or it is not there.
        """
        try:
            fd = _locked_folder(self.folder("layers") / key, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fd = None
        try:
            yield fd is not None
        finally:
            if fd is not None:
                os.close(fd)

    def remove(self, key: str) -> bool:
        """Remove a layer that nobody needs.

        False: it is not there, or somebody uses it, or another layer stands on it, or an image or
        a broken build has it on top.
        """
        with self.alone(key) as is_alone:
            # who builds on it, or names it, holds it meanwhile: what is seen now stays so
            if not is_alone or key in self._needed():
                return False
            away = self.folder("work") / f"{key}.{secrets.token_hex(4)}.removed"
            (self.folder("layers") / key).rename(away)
        self.delete(away)
        return True

    def _needed(self) -> set[str]:
        """Layers on which another one stands, or a broken build, and the top ones of images."""
        layers = self.folder("layers")
        names = {path.name for path in layers.iterdir()} if layers.is_dir() else set()
        for name in names - self._parents.keys():
            layer = self.layer(name)
            if layer is not None:
                self._parents[name] = layer.meta.parent
        found = {self._parents.get(name) for name in names}
        found.update(record.layers[-1] for record in self.records() if record.layers)
        found.update(one.layers[-1] for one in self.broken() if one.layers)
        return {key for key in found if key is not None}

    def scratch(self, prefix: str) -> tuple[Path, int]:
        """A new folder to work in, which is deleted by others only when its descriptor is closed.

        :returns: the folder, and the descriptor that holds it.
        """
        while True:
            path = self.folder("work") / f"{prefix}-{secrets.token_hex(4)}"
            path.mkdir(mode=0o755)
            with contextlib.suppress(BlockingIOError):
                fd = _locked_folder(path, fcntl.LOCK_SH | fcntl.LOCK_NB)
                if fd is not None:
                    return path, fd

    def delete(self, path: Path) -> None:
        """Delete a folder, also one with files of other users of a user namespace."""
        try:
            while path.exists():
                with contextlib.suppress(FileNotFoundError):  # another process deletes it, too
                    shutil.rmtree(path)
        except PermissionError:
            subprocess.run(
                ["unshare", "--map-root-user", "--map-auto", "rm", "-rf", "--", str(path)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )

    # results: which layers a declared step has had, for which inputs

    def results(self, declared: str) -> list[dict[str, Any]]:
        """What a declared step has resulted in: ``{"inputs": {path: hash}, "layer": key}``."""
        try:
            found: list[dict[str, Any]] = json.loads(
                (self.folder("results") / f"{declared}.json").read_text()
            )
        except (OSError, ValueError):
            return []
        return found

    def is_complete(self, image: str) -> bool:
        """Whether an image of this key was built and is there; files that it reads may differ."""
        record = self._record(self.folder("names") / f"{image}.json")
        return record is not None and all(
            (self.folder("layers") / key).is_dir() for key in record.layers
        )

    def add_result(self, declared: str, inputs: Mapping[str, str], layer: str) -> None:
        """Remember a result; the last is looked at first. For who holds the step's lock."""
        row = {"inputs": dict(inputs), "layer": layer}
        rows = [row, *(one for one in self.results(declared) if one["inputs"] != row["inputs"])]
        write_atomically(self.folder("results") / f"{declared}.json", json.dumps(rows[:20]))

    # names

    def record(self, built: Built) -> None:
        """Remember an image by name, and that it was asked for now."""
        path = self.folder("names") / f"{built.image.key}.json"
        now = time.time()
        layers = tuple(layer.key for layer in built.layers)
        known = self._record(path)
        if known is not None and known.layers == layers and known.name == built.image.name:
            with contextlib.suppress(FileNotFoundError):  # somebody has just forgotten it
                os.utime(path)
                return
        told = ImageRecord(
            key=built.image.key,
            name=built.image.name,
            tag=built.image.tag,
            layers=layers,
            built_at=now,
            used_at=now,
            config=asdict(built.config),
        )
        write_atomically(path, json.dumps(asdict(told)))

    def records(self) -> list[ImageRecord]:
        """Images that were built, the last used first."""
        paths = self.folder("names").glob("*.json")
        found = [record for path in paths if (record := self._record(path)) is not None]
        return sorted(found, key=lambda record: -record.used_at)

    def forget(self, image: ImageRecord) -> bool:
        """Forget an image; its layers stay. False: somebody uses it."""
        top = image.layers[-1] if image.layers else ""
        if not top or not (self.folder("layers") / top).is_dir():
            (self.folder("names") / f"{image.key}.json").unlink(missing_ok=True)
            return True
        with self.alone(top) as is_alone:
            # who asks for it holds its top layer before it is told that it was asked for
            known = self._record(self.folder("names") / f"{image.key}.json")
            if not is_alone or (known is not None and known.used_at > image.used_at):
                return False
            (self.folder("names") / f"{image.key}.json").unlink(missing_ok=True)
        return True

    def _record(self, path: Path) -> ImageRecord | None:
        try:
            told = json.loads(path.read_text())
            used_at = path.stat().st_mtime
        except (OSError, ValueError):
            return None
        known = ImageRecord.__dataclass_fields__
        told = {name: value for name, value in told.items() if name in known}
        return ImageRecord(**{**told, "layers": tuple(told["layers"]), "used_at": used_at})

    # builds that failed, and were kept

    def broken(self) -> list[Broken]:
        """Builds that failed and were kept for a look, the last first."""
        found = []
        for path in self.folder("broken").glob("*/broken.json"):
            try:
                told = json.loads(path.read_text())
                row = Broken(
                    path=path.parent,
                    image=told["image"],
                    title=told["title"],
                    layers=tuple(told["layers"]),
                    error=told["error"],
                    at=told["at"],
                )
            except (OSError, ValueError, KeyError):
                continue
            found.append(row)
        return sorted(found, key=lambda one: -one.at)

    # one builder at a time

    @contextlib.asynccontextmanager
    async def locked(self, key: str, waiting: Callable[[str], None]) -> AsyncIterator[Lock]:
        """Hold a lock that ends with this process; while another holds it, tell how far it is.

        :param waiting: is told what the holder does, whenever that changes.
        """
        path = self.folder("locks") / f"{key}.lock"
        told: str | None = None
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(fd, path):
                    break
                os.close(fd)  # it was removed as that of a build that had ended
                continue
            except BlockingIOError:
                seen = os.pread(fd, 4096, 0).decode(errors="replace").partition("\n")[0].strip()
                os.close(fd)
                if seen != told:
                    waiting(f"waits for another build of it{f': {seen}' if seen else ''}")
                told = seen
                # a thread that waits in flock(2) could not be cancelled
                await asyncio.sleep(_POLL_S)
        try:
            yield Lock(fd)
            os.ftruncate(fd, 0)
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def trying(self, key: str) -> Iterator[bool]:
        """Hold a lock if nobody builds under it, and remove it at the end; it is given which."""
        path = self.folder("locks") / f"{key}.lock"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_free = _is_at(fd, path)
        except BlockingIOError:
            is_free = False
        try:
            yield is_free
            if is_free:
                path.unlink(missing_ok=True)
        finally:
            os.close(fd)


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
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


class Lock:
    """A lock that is held, and what its holder tells those who wait."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def tell(self, text: str, who: str = "") -> None:
        """Tell those who wait how far it is, and others who it is."""
        data = f"{text.partition(chr(10))[0][:2000]}\n{who}\n{os.getpid()}\n".encode()
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, data, 0)


def _locked_folder(path: Path, how: int) -> int | None:
    """Lock a folder (flock(2)); None: there is none.

    :raises BlockingIOError: somebody else has it, and that is not to be waited for.
    """
    while True:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, how)
        except BaseException:
            os.close(fd)
            raise
        if _is_at(fd, path):
            return fd
        os.close(fd)  # removed between the two, and perhaps made anew


def _is_at(fd: int, path: Path) -> bool:
    """Whether a path still leads to what was opened."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    own = os.fstat(fd)
    return (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino)


def _close_all(held: dict[str, int]) -> None:
    while held:
        os.close(held.popitem()[1])


def write_atomically(path: Path, text: str) -> None:
    """Write a file that others see whole or not at all."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    new.write_text(text)
    new.replace(path)


def _meta(told: Mapping[str, Any]) -> LayerMeta:
    known = LayerMeta.__dataclass_fields__
    return LayerMeta(**{name: value for name, value in told.items() if name in known})


def disk_usage(path: Path) -> int:
    """Bytes that a folder takes on disk."""
    done = subprocess.run(
        ["du", "-s", "--block-size=1", "--", str(path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        return int(done.stdout.split()[0])
    except (IndexError, ValueError):
        return 0
