"""Where exports are written: files that appear whole, and room to work in."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.errors import BuildError
from pytest_carthage.fabric.host.claim import take
from pytest_carthage.images.exports.failures import refusal
from pytest_carthage.store import disk
from pytest_carthage.store.pending import hidden
from pytest_carthage.store.root import pending

if TYPE_CHECKING:
    from pytest_carthage.store.root import Store

__all__ = ["absolute", "new_file", "new_folder", "room"]

_SCRATCH = "result"


def absolute(path: Path) -> Path:
    """A path that does not depend on the current folder."""
    return path.expanduser().absolute()


@contextlib.contextmanager
def new_file(path: Path, doing: str) -> Iterator[Path]:
    """A file beside another that takes its place at the end, and is gone if that fails.

    It is on the disk itself before it has its name. What a killed process has left goes with the
    next of these, or the next run that has images.

    :raises BuildError: it cannot be written, or another process does.
    """
    path = path.absolute()
    waiting = pending()
    waiting.sweep()
    if path.is_dir():
        raise BuildError(f"{doing}: {path} is a folder; try: a file in it")
    new = path.with_name(f".{path.name}.new")
    with waiting.announced(new) as made:
        try:
            claim = take(new, create=0o666)
        except BlockingIOError:
            raise BuildError(f"{doing}: another process writes {path} now") from None
        except OSError as error:
            raise refusal(doing, error, path.parent) from error
        with claim:
            try:
                made()
                claim.forget()
                yield new
                os.fsync(claim.fd)
                new.replace(path)
                disk.settle_names(path.parent)
            except BaseException as error:
                new.unlink(missing_ok=True)
                if isinstance(error, OSError):
                    raise refusal(doing, error, path.parent) from error
                raise


@contextlib.contextmanager
def new_folder(folder: Path, mode: int) -> Iterator[Path]:
    """A folder beside another that gets its name at the end, on the disk, in place of an empty one.

    It is gone if that fails, and as a file of :func:`new_file` if this process is killed.
    """
    folder = folder.absolute()
    waiting = pending()
    waiting.sweep()
    new = hidden(folder)
    with waiting.announced(new) as made:
        new.mkdir(mode=0o700)
        try:
            made()
            yield new
            new.chmod(mode)
            disk.settle(new)
            new.rename(folder)
            disk.settle_names(folder.parent)
        finally:
            shutil.rmtree(new, ignore_errors=True)


@contextlib.asynccontextmanager
async def room(store: Store, doing: str) -> AsyncIterator[Path]:
    """A folder of the store to work in; it goes, also those of processes that were killed.

    :raises BuildError: it cannot be made.
    """
    parent = store.folder("work")
    try:
        path, claim = store.scratch(_SCRATCH)
    except OSError as error:
        raise refusal(doing, error, parent) from error
    try:
        await asyncio.to_thread(_sweep, store, parent)
        yield path
    except OSError as error:
        raise refusal(doing, error, parent) from error
    finally:
        await asyncio.shield(asyncio.to_thread(disk.delete, path))
        claim.release()


def _sweep(store: Store, parent: Path) -> None:
    for path in parent.glob(f"{_SCRATCH}-*"):
        store.take_away(path)
