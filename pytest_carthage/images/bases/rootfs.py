"""A root file system that somebody has: a tar, or a folder."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.errors import BuildError
from pytest_carthage.fabric.host.execution import run
from pytest_carthage.fabric.host.namespaces import apart
from pytest_carthage.images.bases.hashes import content_hash
from pytest_carthage.images.bases.values import BaseResult
from pytest_carthage.work import space

if TYPE_CHECKING:
    from pytest_carthage.images.bases.values import BaseTools
    from pytest_carthage.model.image import Image

__all__ = ["inputs", "make"]

# not what overlays say to themselves: a machine that stands on it would obey
_XATTRS = (
    "--xattrs",
    *(f"--xattrs-include={names}" for names in ("security.*", "user.*", "system.posix_acl_*")),
    "--xattrs-exclude=user.overlay.*",
)
# no user namespace may make devices; what a machine needs of them is made when it starts
_NO_DEVICES = ("--anchored", "--exclude=./dev/*", "--exclude=dev/*")


async def inputs(image: Image) -> dict[str, str]:
    """The path, and the hash of what is there."""
    assert image.path is not None
    return {str(image.path): await asyncio.to_thread(content_hash, image.path, _who(image))}


async def make(image: Image, tree: Path, tools: BaseTools) -> BaseResult:
    """Unpack or copy it.

    :raises BuildError: it is neither, or damaged.
    """
    assert image.path is not None
    (digest,) = (await inputs(image)).values()
    if image.path.is_dir():
        tools.note(f"copying {image.path.name}")
        program = "cp"
        argv = ["cp", "-a", "--reflink=auto", "--", f"{image.path}/.", f"{tree}/"]
    else:
        tools.note(f"unpacking {image.path.name}")
        program = "tar"
        argv = ["tar", "--extract", "--file", str(image.path), "--directory", str(tree)]
        argv += ["--numeric-owner", "--same-owner", "--preserve-permissions", *_XATTRS]
        argv += [] if tools.privileged else _NO_DEVICES
    ended = await run([*apart(privileged=tools.privileged, network=False), *argv])
    if ended.status:
        remedy = space.advice(ended.text, tree.parent) or "try: tar -tf, which tells what is in it"
        raise BuildError(
            f"{_who(image)}: {program} ended with status {ended.status}; the last lines:\n"
            f"{ended.text}\n{remedy}"
        )
    if not await asyncio.to_thread(looks_like_root, tree):
        raise BuildError(
            f"{_who(image)}: there is no root file system in it: neither bin, usr nor etc; "
            "try: a tar made in that folder, as by tar -c -C FOLDER ."
        )
    return BaseResult(digest=f"sha256:{digest}")


def looks_like_root(tree: Path) -> bool:
    """Whether it has any of the folders that every root file system has."""
    return any((tree / name).exists() or (tree / name).is_symlink() for name in _FOLDERS)


_FOLDERS = ("bin", "usr", "etc")


def _who(image: Image) -> str:
    return f"image {image.name!r} ({image.path})"
