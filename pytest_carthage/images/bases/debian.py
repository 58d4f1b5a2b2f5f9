"""Debian from its packages, by mmdebstrap(1): straight into the folder, and without a network.

What it needs is resolved and downloaded before; the build itself can reach nobody.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.errors import BuildError
from pytest_carthage.fabric.host.execution import Ended, run
from pytest_carthage.fabric.host.namespaces import apart
from pytest_carthage.images.bases.hashes import content_hash
from pytest_carthage.images.bases.hooks import Hooks
from pytest_carthage.images.bases.values import BaseResult
from pytest_carthage.work import space
from pytest_carthage.work.debian.apt import Apt
from pytest_carthage.work.debian.archive import Archive, native_architecture
from pytest_carthage.work.debian.deb import versions_of

if TYPE_CHECKING:
    from pytest_carthage.images.bases.values import BaseTools
    from pytest_carthage.model.image import Image

__all__ = ["inputs", "make", "simulate"]

#: what mmdebstrap says at the beginning of each longer step
_STEPS = ("extracting", "installing", "cleaning")

#: of a tree; lists that were never fetched are as old as can be, for whoever looks at that
_SCRIPT = 'umask 022; mmdebstrap "$@" && touch -d @0 "$0/var/lib/apt/lists"'


async def make(image: Image, tree: Path, tools: BaseTools) -> BaseResult:
    """Install Debian into an empty folder.

    :raises BuildError: it cannot be built, with the last lines.
    """
    architecture = native_architecture()
    archive = await asyncio.to_thread(
        Archive.of, suite=image.suite, architecture=architecture, mirror=image.archive
    )
    apt = Apt.of(archive, tools.cache, offline=tools.offline)
    try:
        wanted = image.base_packages
        _, debs = await apt.get_base(image.variant, wanted, note=tools.note)
        async with apt.listed(wanted) as lists:
            await asyncio.to_thread(_lay_out, tree, lists, debs)
    except BuildError as error:
        raise BuildError(f"{_who(image)}: {error}") from error
    except OSError as error:
        raise BuildError(f"{_who(image)}: {error}{_hint(str(error), tree)}") from error

    def tell(line: str) -> None:
        if line.startswith("I: ") and line[3:].startswith(_STEPS):
            tools.note(line[3:].rstrip("."))

    ended = await run(
        [
            *apart(privileged=tools.privileged, network=False),
            *("sh", "-c", _SCRIPT, str(tree)),
            *_arguments(image, archive, tree, apt.cache.architectures(wanted)),
        ],
        input=archive.sources.encode(),
        env={"TMPDIR": str(tree.parent)},
        tell=tell,
    )
    if ended.status:
        raise BuildError(_failure(image, ended, tree))
    return BaseResult(config={"env": {"LANG": "C.UTF-8"}})


async def inputs(image: Image) -> dict[str, str]:
    """What it is made of beside packages: the keys of its archive.

    :raises BuildError: they are not there.
    """
    if image.keyring is None:
        return {}
    digest = await asyncio.to_thread(content_hash, image.keyring, _who(image))
    return {str(image.keyring): digest}


async def simulate(image: Image, cache: Path) -> Mapping[str, str]:
    """Name to version of what a base would have if it were made now.

    :param cache: folder for lists and downloads of all archives.
    :raises BuildError: as :meth:`Apt.resolve`.
    """
    architecture = native_architecture()
    archive = await asyncio.to_thread(
        Archive.of, suite=image.suite, architecture=architecture, mirror=image.archive
    )
    apt = Apt.of(archive, cache)
    debs = await apt.resolve_base(image.variant, image.base_packages, note=lambda text: None)
    return versions_of(debs, architecture)


def _who(image: Image) -> str:
    packages = f" with {', '.join(image.packages)}" if image.packages else ""
    return f"image {image.name!r} (Debian {image.suite}{packages})"


def _lay_out(tree: Path, lists: Sequence[Path], debs: Sequence[Path]) -> None:
    """Put package lists and archives where apt has them."""
    for folder, paths in (("var/lib/apt/lists", lists), ("var/cache/apt/archives", debs)):
        target = tree / folder
        (target / "partial").mkdir(mode=0o755, parents=True)
        for path in paths:
            if path.name != "lock":
                _link(path, target / path.name)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)  # never written to: apt removes it, and that is all
    except OSError:
        shutil.copyfile(source, target)


def _arguments(
    image: Image, archive: Archive, tree: Path, architectures: Sequence[str]
) -> list[str]:
    hooks = Hooks(image=image, archive=archive)
    return [
        "--mode=root",
        f"--variant={image.variant}",
        "--skip=check/empty,update",
        f"--architectures={','.join(architectures)}",
        *([f"--include={','.join(image.base_packages)}"] if image.base_packages else []),
        f"--setup-hook={hooks.at_first}",
        f"--essential-hook={hooks.before_packages}",
        f"--customize-hook={hooks.after_packages}",
        image.suite,
        str(tree),
        "-",
    ]


def _failure(image: Image, ended: Ended, tree: Path) -> str:
    said = (
        f"{_who(image)}: the build ended with status {ended.status}; the last lines:\n{ended.text}"
    )
    return said + (_hint(ended.text, tree) or "\ntry: the packages, one by one, with mmdebstrap")


def _hint(text: str, tree: Path) -> str:
    full = space.advice(text, tree.parent)
    return f"\n{full}" if full else ""
