"""An image as an OCI archive: a layout as one tar."""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.images.exports.epoch import epoch
from pytest_carthage.images.exports.notes import Note, quiet
from pytest_carthage.images.exports.oci.blobs import Blob, digits, gzipped
from pytest_carthage.images.exports.oci.description import (
    Description,
    configuration,
    describe,
    is_left_out,
)
from pytest_carthage.images.exports.places import absolute, new_file

if TYPE_CHECKING:
    from pytest_carthage.store.built import Built

__all__ = ["save_archive"]


async def save_archive(built: Built, path: Path, *, note: Note = quiet) -> None:
    """Write an OCI archive, for ``podman load`` and skopeo.

    With SOURCE_DATE_EPOCH the same files give the same bytes.

    :raises BuildError: it cannot be written; nothing is then left of it.
    """
    path = absolute(path)
    doing = f"{built.who}: saved as {path}"
    with new_file(path, doing) as new:
        blobs = [await gzipped(layer, doing, note) for layer in built.layers]
        config = configuration(built, [blob.plain for blob in blobs])
        description = describe(built, config, blobs, compress=True)
        note(f"writing {path.name}")
        await asyncio.to_thread(_write, new, description, blobs)


def _write(path: Path, description: Description, blobs: Sequence[Blob]) -> None:
    layers = {
        f"blobs/sha256/{digits(blob.digest)}": blob.path
        for number, blob in enumerate(blobs)
        if blob.path is not None and not is_left_out(number, blob.plain)
    }
    # what says where the rest is comes first
    names = ["oci-layout", "index.json"]
    names += sorted({*description.files, *layers} - set(names))
    with (
        path.open("r+b") as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name in names:
            info = tarfile.TarInfo(name)
            info.mtime = epoch() or 0
            info.mode = 0o644
            if name in description.files:
                data = description.files[name]
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
                continue
            source = layers[name]
            info.size = source.stat().st_size
            with source.open("rb") as blob:
                tar.addfile(info, blob)
