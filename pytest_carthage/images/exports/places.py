"""Where exports are written: files that appear whole, and room to work in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.errors import BuildError
from pytest_carthage.fabric.host.claim import take
from pytest_carthage.images.exports.failures import refusal
from pytest_carthage.store import disk

if TYPE_CHECKING:
    from pytest_carthage.store.root import Store

__all__ = ["absolute", "new_file", "room"]

_SCRATCH = "result"


def absolute(path: Path) -> Path:
    """A path that does not depend on the current folder."""
    return path.expanduser().absolute()


@contextlib.contextmanager
def new_file(path: Path, doing: str) -> Iterator[Path]:
    """A file beside another that takes its place at the end, and is gone if that fails.

    What a killed process has left is taken over.

    :raises BuildError: it cannot be written, or another process does.
    """
    path = path.absolute()
    new = path.with_name(f".{path.name}.new")
    try:
        if path.is_dir():
            raise BuildError(f"{doing}: {path} is a folder; try: a file in it")
        claim = take(new, create=0o666)
    except BlockingIOError:
        raise BuildError(f"{doing}: another process writes {path} now") from None
    except OSError as error:
        raise refusal(doing, error, path.parent) from error
    with claim:
        try:
            claim.forget()
            yield new
            new.replace(path)
        except BaseException as error:
            new.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise refusal(doing, error, path.parent) from error
            raise


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
