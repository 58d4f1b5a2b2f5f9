"""Packing the folders of layers, each tar by a process of its own."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_carthage.errors import BuildError
from pytest_carthage.fabric.host.execution import run
from pytest_carthage.fabric.host.namespaces import as_root_of_files
from pytest_carthage.images.exports.epoch import epoch
from pytest_carthage.images.exports.failures import refusal

__all__ = ["Packed", "pack"]

_ROOT = Path(__file__).resolve().parents[4]
_CODE = (
    f"import sys; sys.path.insert(0, {str(_ROOT)!r});"
    "from pytest_carthage.images.exports.tars.program import main; main()"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """What a tar was found to be."""

    #: of the plain tar; empty: not asked for
    digest: str
    size: int
    #: entries, the root not counted
    entries: int
    #: of the compressed one; empty: not compressed
    packed_digest: str
    packed_size: int


async def pack(
    trees: Sequence[Path],
    out: int,
    *,
    doing: str,
    places: Sequence[Path],
    is_layer: bool,
    sparse: bool = False,
    hashed: bool = True,
    compress: bool = False,
) -> Packed:
    """Write folders (the top first) as one tar.

    :param out: descriptor that is written to; negative: it is only hashed.
    :param is_layer: as a layer of an image, which tells of what is deleted below; else merged.
    :param sparse: holes of files are told, see :class:`.tree.Tar`.
    :raises BuildError: something in them cannot be in a tar, or a disk is full.
    """
    request = {
        "trees": await asyncio.to_thread(_real, trees),
        "epoch": epoch(),
        "layer": is_layer,
        "sparse": sparse,
        "hash": hashed,
        "gzip": compress,
        "out": out,
    }
    ended = await run(
        as_root_of_files([sys.executable, "-I", "-S", "-c", _CODE]),
        input=json.dumps(request).encode(),
        keep_output=True,
        keep_fds=(out,) if out >= 0 else (),
    )
    if not ended.output:
        said = "\n".join(ended.lines)
        raise BuildError(f"{doing}: its files could not be read: {said}{_no_ids(said)}")
    answer: dict[str, Any] = json.loads(ended.output)
    if "errno" in answer:
        if answer["errno"] == errno.ENOSPC:
            raise refusal(doing, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), *places)
        raise BuildError(f"{doing}: {answer['error']}")
    if "error" in answer:
        raise BuildError(f"{doing}: {answer['error']}; try: change the task that makes it")
    return Packed(
        digest=answer["digest"] or "",
        size=answer["size"],
        entries=answer["entries"],
        packed_digest=answer["packed_digest"] or "",
        packed_size=answer["packed_size"],
    )


def _real(trees: Sequence[Path]) -> list[str]:
    """Paths of folders; a layer that is lent to another store is a link there."""
    return [os.path.realpath(tree) for tree in trees]


def _no_ids(said: str) -> str:
    if "uidmap" in said or "subuid" in said or "unshare" in said:
        return "; try: apt-get install uidmap, and lines for you in /etc/subuid and /etc/subgid"
    return ""
