"""The store of this user on this host: a folder, and what is kept in it.

Whoever uses an image holds its top layer. Only layers that no other stands on, that no image and
no broken build has on top, and that nobody holds are removed.
"""

from __future__ import annotations

import os
import secrets
import weakref
from pathlib import Path

from pytest_carthage.errors import BuildError
from pytest_carthage.fabric.host import ownership
from pytest_carthage.fabric.host.claim import Claim, take
from pytest_carthage.fabric.host.file_names import lack_of_utf8
from pytest_carthage.store import disk
from pytest_carthage.store.broken import BrokenBuilds
from pytest_carthage.store.claims import Claims
from pytest_carthage.store.disks import Disks
from pytest_carthage.store.holding import Holding, alone
from pytest_carthage.store.layers import Layers
from pytest_carthage.store.outcomes import Outcomes
from pytest_carthage.store.pending import Pending
from pytest_carthage.store.records import ImageRecord, Records

__all__ = ["Store", "images_root", "pending"]

_FOLDERS = (
    *("layers", "names", "results", "locks", "work", "broken", "apt", "damaged", "pending"),
    "disks",
)


def images_root() -> Path:
    """Folder of the images of this user: ``$CARTHAGE_IMAGES``, or the system's place for data."""
    chosen = os.environ.get("CARTHAGE_IMAGES")
    if chosen:
        return Path(chosen).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/pytest-carthage/images")
    base = Path(os.environ.get("XDG_DATA_HOME") or Path("~/.local/share").expanduser())
    if not base.is_absolute():  # no home at all
        base = Path(ownership.homeless())
    return base / "pytest-carthage" / "images"


def pending() -> Pending:
    """What this user's processes write outside of the store."""
    return Pending(images_root() / "pending")


class Store:
    """The layers of this user on this host, and what is remembered of them.

    :raises BuildError: its folder belongs to somebody else, who could put anything into images.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or images_root()
        self._refuse_foreign()
        self.layers = Layers(self.folder("layers"))
        #: images that were built
        self.records = Records(self.folder("names"))
        #: bootable disks that were made of images
        self.disks = Disks(self.folder("disks"))
        self.outcomes = Outcomes(self.folder("results"))
        #: builds that failed, and were kept
        self.broken = BrokenBuilds(self.folder("broken"))
        #: what is half written outside of the store
        self.pending = Pending(self.folder("pending"))
        #: builds that go on
        self.claims = Claims(self.folder("locks"))
        #: what is in use until the store is released
        self.holding = Holding()
        # who forgets the store, and every image of it, uses none of its layers any more
        weakref.finalize(self, self.holding.release)

    def prepare(self) -> None:
        """Make its folders, for this user alone.

        :raises BuildError: they cannot be made, or are somebody else's.
        """
        if lack := lack_of_utf8(self.root, "the folder of images (CARTHAGE_IMAGES)"):
            raise BuildError(lack)
        try:
            ownership.make(str(self.root), "CARTHAGE_IMAGES", 0o711)
            for name in _FOLDERS:
                self.folder(name).mkdir(mode=0o700, exist_ok=True)
            self.pending.sweep()
        except OSError as error:
            reason = str(error)  # which says what to do
            if error.errno is not None:
                reason = f"{error.strerror}; try: set CARTHAGE_IMAGES to a folder of your own"
            raise BuildError(f"images are kept in {self.root}: {reason}") from error

    def _refuse_foreign(self) -> None:
        try:
            ownership.refuse_foreign(str(self.root), "CARTHAGE_IMAGES")
        except OSError as error:
            raise BuildError(f"images are kept in {self.root}: {error}") from error

    def folder(self, name: str) -> Path:
        """One of its folders: layers, names, results, locks, work, broken, apt, damaged,
        pending, kernels, disks.
        """
        return self.root / name

    # layers in use

    def hold(self, key: str) -> bool:
        """Keep others from removing a layer while this store is in use; False: it is gone."""
        return self.holding.add(self.layers.path(key))

    def release(self) -> None:
        """Let go of all that was held."""
        self.holding.release()

    def is_complete(self, image: str) -> bool:
        """Whether an image of this key was built and is there; files that it reads may differ."""
        record = self.records.get(image)
        return record is not None and all(key in self.layers for key in record.layers)

    # removing

    def remove(self, key: str) -> bool:
        """Remove a layer that nobody needs.

        False: it is not there, or somebody uses it, or another layer stands on it, or an image or
        a broken build has it on top.
        """
        with self.layers.alone(key) as is_alone:
            # who builds on it, or names it, holds it meanwhile: what is seen now stays so
            if not is_alone or key in self._needed():
                return False
            away = self.away(key)
            self.layers.path(key).rename(away)
        disk.delete(away)
        return True

    def _needed(self) -> set[str]:
        return {*self.layers.supporting(), *self.records.tops(), *self.broken.tops()}

    def remove_disk(self, key: str) -> bool:
        """Remove a disk; False: it is not there, or somebody uses it."""
        with self.disks.alone(key) as is_alone:
            if not is_alone:
                return False
            away = self.away(key)
            self.disks.path(key).rename(away)
        disk.delete(away)
        return True

    def forget(self, image: ImageRecord) -> bool:
        """Forget an image; its layers stay. False: somebody uses it."""
        if not image.top or image.top not in self.layers:
            self.records.remove(image.key)
            return True
        with self.layers.alone(image.top) as is_alone:
            # who asks for it holds its top layer before it is told that it was asked for
            now = self.records.get(image.key)
            if not is_alone or (now is not None and now.used_at > image.used_at):
                return False
            self.records.remove(image.key)
        return True

    def take_away(self, folder: Path) -> bool:
        """Delete a folder that nobody holds; False: somebody does, or it is gone."""
        if folder.is_symlink() or not folder.is_dir():
            return False
        away = self.away(folder.name)
        try:
            with take(folder):
                folder.rename(away)
        except OSError:
            return False
        disk.delete(away)
        return True

    def set_aside(self, key: str, *, in_any_case: bool = False) -> Path | None:
        """Rename a damaged layer, so that one that is whole can take its place.

        It is not deleted: machines may stand on it. None: it is not damaged, or not there.

        :param in_any_case: its files are damaged, although what is said of them can be read.
        """
        with take(self.folder("damaged"), wait=True):  # one who judges it at a time
            if not self.layers.path(key).exists():
                return None
            if not (in_any_case or self.layers.damage(key)):
                return None
            aside = self.folder("damaged") / f"{key}.{secrets.token_hex(4)}"
            self.layers.path(key).rename(aside)
        disk.settle_names(self.layers.folder)
        return aside

    def is_in_use(self) -> bool:
        """Whether somebody uses any layer, by whichever store: also those that were set aside."""
        folders = (self.layers.folder, self.folder("damaged"))
        for path in (path for folder in folders for path in folder.iterdir()):
            with alone(path) as is_alone:
                if not is_alone and path.exists():
                    return True
        return False

    # folders to work in

    def work(self, key: str) -> Path:
        """The folder in which the work for a key is done, by who has claimed it."""
        return self.folder("work") / key

    def away(self, name: str) -> Path:
        """A new name for what is removed, so that nobody finds it while it is deleted."""
        return self.folder("work") / f"{name}.{secrets.token_hex(4)}.removed"

    def scratch(self, prefix: str) -> tuple[Path, Claim]:
        """A new folder to work in, which is deleted by others only when its claim is released.

        :returns: the folder, and the claim.
        """
        while True:
            path = self.folder("work") / f"{prefix}-{secrets.token_hex(4)}"
            path.mkdir(mode=0o755)
            try:
                return path, take(path, shared=True)
            except (BlockingIOError, FileNotFoundError):  # swept before it was claimed
                continue
