"""An image's whole root file system as one tar."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.errors import BuildError
from pytest_carthage.fabric.host.execution import environment
from pytest_carthage.images.exports.failures import program_failure
from pytest_carthage.images.exports.notes import Note, quiet
from pytest_carthage.images.exports.places import new_file
from pytest_carthage.images.exports.tars.packing import pack
from pytest_carthage.images.exports.tools import require

if TYPE_CHECKING:
    from pytest_carthage.store.built import Built

__all__ = ["save_tarball"]

#: ending -> program that compresses; none: we do, or it is plain
_COMPRESSORS: dict[str, tuple[str, ...]] = {
    ".tar": (),
    ".tar.gz": (),
    ".tgz": (),
    ".tar.zst": ("zstd", "--quiet", "--threads=0", "-3"),
    ".tar.xz": ("xz", "--threads=0", "-6"),
}


async def save_tarball(built: Built, path: Path, *, note: Note = quiet) -> None:
    """Write the merged files as a tar: owners as numbers, capabilities and ACLs, devices.

    With SOURCE_DATE_EPOCH the same files give the same bytes. Holes are told as GNU tar, bsdtar,
    Python and Go read them.

    :param path: ends with .tar, .tar.gz, .tgz, .tar.zst or .tar.xz.
    :raises BuildError: it cannot be written; nothing is then left of it.
    :raises HostError: this host lacks what compresses it.
    """
    doing = f"{built.who}: saved as {path}"
    ending = next((suffix for suffix in _COMPRESSORS if path.name.endswith(suffix)), None)
    if ending is None:
        raise BuildError(f"{doing}: not known by its ending; try: {', '.join(_COMPRESSORS)}")
    compressor = _COMPRESSORS[ending]
    if compressor:
        require(compressor[0])
    note(f"writing {path.name}")
    with new_file(path, doing) as new:
        fd = os.open(new, os.O_WRONLY | os.O_CLOEXEC)
        try:
            if compressor:
                await _through(compressor, built, fd, doing, path)
            else:
                await _pack(built, fd, doing, path, compress=ending in (".tar.gz", ".tgz"))
        finally:
            os.close(fd)


async def _pack(built: Built, out: int, doing: str, path: Path, *, compress: bool) -> None:
    await pack(
        built.lower,
        out,
        doing=doing,
        places=[path.parent],
        is_layer=False,
        sparse=True,
        hashed=False,
        compress=compress,
    )


async def _through(
    compressor: tuple[str, ...], built: Built, out: int, doing: str, path: Path
) -> None:
    """Let a program compress what is packed."""
    read, write = os.pipe2(os.O_CLOEXEC)
    try:
        process = await asyncio.create_subprocess_exec(
            *compressor,
            stdin=read,
            stdout=out,
            stderr=asyncio.subprocess.PIPE,
            env=environment(),
        )
    except BaseException:
        os.close(write)
        raise
    finally:
        os.close(read)
    packing: BuildError | None = None
    try:
        try:
            await _pack(built, write, doing, path, compress=False)
        except BuildError as error:
            packing = error  # perhaps only since the compressor has gone
        finally:
            os.close(write)
        _, said = await process.communicate()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await asyncio.shield(process.wait())
    if process.returncode:
        text = said.decode(errors="replace").strip()
        raise program_failure(doing, compressor[0], process.returncode, text, [path.parent])
    if packing is not None:
        raise packing
