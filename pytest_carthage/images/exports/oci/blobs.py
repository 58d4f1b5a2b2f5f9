"""Layers as blobs: tars, plain or compressed, the digests of which are kept with the layer."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.images.exports.epoch import epoch
from pytest_carthage.images.exports.failures import refusal
from pytest_carthage.images.exports.places import new_file
from pytest_carthage.images.exports.tars.packing import Packed, pack
from pytest_carthage.store.disk import write_atomically

if TYPE_CHECKING:
    from pytest_carthage.images.exports.notes import Note
    from pytest_carthage.store.layer import Layer

#: beside a layer: what its tar is like, without holes and with them. A tar that is written in
#: another way gets another name, since what is remembered is no longer true of it
_NAMES = ("diff_id.2", "bundle_id.2")
_COMPRESSED = "layer.2.tar.gz"

__all__ = [
    "Blob",
    "PlainTar",
    "diff_id",
    "digits",
    "gzipped",
    "plain_tar",
    "recorded",
    "written",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainTar:
    """A layer's plain tar."""

    digest: str
    size: int
    is_empty: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A layer as it is in a layout."""

    plain: PlainTar
    digest: str
    size: int
    #: the bytes, where they are on disk
    path: Path | None

    @classmethod
    def of(cls, plain: PlainTar) -> Blob:
        """A layer that is not compressed."""
        return cls(plain=plain, digest=plain.digest, size=plain.size, path=None)


def digits(digest: str) -> str:
    """A digest without its algorithm, as blobs are called."""
    return digest.removeprefix("sha256:")


async def diff_id(layer: Layer) -> str:
    """Digest of the layer's plain tar, which is remembered.

    :raises BuildError: something in it cannot be in a tar.
    """
    return (await plain_tar(layer, f"layer {layer.meta.title!r}")).digest


async def plain_tar(layer: Layer, doing: str, *, sparse: bool = False) -> PlainTar:
    """The layer's plain tar, which is made only where nothing is remembered of it.

    :param sparse: as it is in a bundle, with holes; no image has it so.
    :raises BuildError: something in it cannot be in a tar.
    """
    return recorded(layer, sparse=sparse) or await _pack(layer, -1, doing, sparse=sparse)


def recorded(layer: Layer, *, sparse: bool = False) -> PlainTar | None:
    """What is remembered of a layer's plain tar; None: nothing."""
    try:
        digest, size, entries = _beside(layer, _NAMES[sparse]).read_text().split()
        return PlainTar(digest=digest, size=int(size), is_empty=entries == "0")
    except (OSError, ValueError):
        return None


async def gzipped(layer: Layer, doing: str, note: Note) -> Blob:
    """A layer's compressed tar: made once, kept with the layer."""
    path, facts = _beside(layer, _COMPRESSED), _beside(layer, f"{_COMPRESSED}.json")
    plain = recorded(layer)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        record = json.loads(facts.read_text())
        if plain is not None and path.stat().st_size == record["size"]:
            return Blob(plain=plain, digest=record["digest"], size=record["size"], path=path)
    note(f"compressing {layer.meta.title}")
    with new_file(path, doing) as new:
        fd = os.open(new, os.O_WRONLY | os.O_CLOEXEC)
        try:
            packed = await pack(
                [layer.tree],
                fd,
                doing=doing,
                places=[layer.path.parent],
                is_layer=True,
                hashed=plain is None,
                compress=True,
            )
        finally:
            os.close(fd)
        record = {"digest": packed.packed_digest, "size": packed.packed_size}
        write_atomically(facts, json.dumps(record))
    plain = plain or _remember(layer, packed, doing)
    return Blob(plain=plain, digest=packed.packed_digest, size=packed.packed_size, path=path)


async def written(layer: Layer, folder: Path, doing: str) -> PlainTar:
    """Write a layer's plain tar into a folder, named by its digest."""
    plain = recorded(layer)
    new = folder / f"{layer.key}.new"
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        if plain is None:
            plain = await _pack(layer, fd, doing)
        else:
            await pack(
                [layer.tree],
                fd,
                doing=doing,
                places=[folder],
                is_layer=True,
                hashed=False,
            )
    finally:
        os.close(fd)
    new.replace(folder / digits(plain.digest))
    return plain


async def _pack(layer: Layer, out: int, doing: str, *, sparse: bool = False) -> PlainTar:
    """Hash a layer for the first time, and write it by the way."""
    packed = await pack(
        [layer.tree],
        out,
        doing=doing,
        places=[layer.path.parent],
        is_layer=True,
        sparse=sparse,
    )
    return _remember(layer, packed, doing, sparse=sparse)


def _remember(layer: Layer, packed: Packed, doing: str, *, sparse: bool = False) -> PlainTar:
    try:
        text = f"{packed.digest} {packed.size} {packed.entries}\n"
        write_atomically(_beside(layer, _NAMES[sparse]), text)
    except OSError as error:
        raise refusal(doing, error, layer.path) from error
    return PlainTar(digest=packed.digest, size=packed.size, is_empty=not packed.entries)


def _beside(layer: Layer, name: str) -> Path:
    """A file of a layer that is only as good as the time that tars are limited to."""
    newest = epoch()
    return layer.path / (name if newest is None else f"{name}.{newest}")
