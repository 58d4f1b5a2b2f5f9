"""Files and folders of a person that are half written: noted before they are made.

They have hidden names beside what they are to become. Who is killed meanwhile leaves them; whoever
comes next finds the note, sees that nobody has it any more, and removes both. A note is claimed by
its process (flock(2)) as long as that lives, and so may the file be; it knows what was made by its
inode. So nothing is removed for how it is called.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from pytest_carthage.fabric.host import ownership
from pytest_carthage.fabric.host.claim import take
from pytest_carthage.store import disk

__all__ = ["Pending", "hidden"]

_HIDDEN = re.compile(r"\..+\.new", re.DOTALL)


def hidden(path: Path) -> Path:
    """A name beside a file or folder that nobody else has."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")


def _is_hidden(path: Path) -> bool:
    return path.is_absolute() and _HIDDEN.fullmatch(path.name) is not None


class Pending:
    """Notes of what is half written, a file each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def announced(self, path: Path) -> Iterator[Callable[[], object]]:
        """Note that a file or folder is made at a path while the block runs.

        Yields what is to be called when it is made. What is still there at the end is the caller's.
        """
        note = self.folder / f"{secrets.token_hex(8)}.json"
        try:
            ownership.make(str(self.folder), "CARTHAGE_IMAGES")
            claim = take(note, create=0o600)
        except OSError:  # no folder of images can be made here: then nothing is removed either
            yield lambda: None
            return

        def tell(**more: object) -> None:
            text = json.dumps({"path": str(path.absolute()), **more})
            os.pwrite(claim.fd, text.encode(errors="surrogateescape"), 0)

        with claim:
            try:
                tell()
                yield lambda: tell(inode=_inode(path))
            finally:
                note.unlink(missing_ok=True)

    def write(self, path: Path, text: str) -> None:
        """Write a person's file that others see whole or not at all, also after a power cut."""
        new = hidden(path)
        with self.announced(new) as made:
            try:
                with new.open("x") as file:
                    made()
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                new.replace(path)
                disk.settle_names(path.absolute().parent)
            finally:
                new.unlink(missing_ok=True)

    def dead(self) -> list[Path]:
        """Paths that were announced by processes that are gone."""
        paths = []
        for note in self._notes():
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError), take(note):
                paths.append(Path(json.loads(note.read_bytes())["path"]))
        return paths

    def sweep(self) -> None:
        """Remove what dead processes have left."""
        for note in self._notes():
            with contextlib.suppress(OSError), take(note):  # else its process lives
                _remove(note)
                note.unlink()

    def _notes(self) -> list[Path]:
        try:
            ownership.refuse_foreign(str(self.folder), "CARTHAGE_IMAGES")
        except OSError:  # what somebody else says is to be removed is not
            return []
        return sorted(self.folder.glob("*.json"))


def _inode(path: Path) -> list[int]:
    info = path.lstat()
    return [info.st_dev, info.st_ino]


def _remove(note: Path) -> None:
    try:
        record = json.loads(note.read_bytes())
        path, inode = Path(record["path"]), record.get("inode")
    except (ValueError, KeyError, TypeError):  # killed before it could be written: nothing was made
        return
    if not _is_hidden(path):
        return
    with contextlib.suppress(FileNotFoundError, BlockingIOError, NotADirectoryError):
        if inode is not None and _inode(path) != inode:
            return  # it has become another, or got its name
        if path.is_dir() and not path.is_symlink():
            if inode is None:  # killed between: it is empty, or not ours
                with contextlib.suppress(OSError):
                    path.rmdir()
            else:
                disk.delete(path)
        else:
            with take(path):  # else somebody else writes it by now
                if inode is not None or not path.stat().st_size:
                    path.unlink()
