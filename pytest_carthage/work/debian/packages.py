"""Debian packages of a file system, whether its machine runs or not: installed and removed."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_carthage.errors import BuildError, CommandError, TaskError
from pytest_carthage.handles.system import Runs, System
from pytest_carthage.model.names import is_package
from pytest_carthage.work.debian.apt import Apt
from pytest_carthage.work.debian.archive import Archive
from pytest_carthage.work.debian.status import (
    STATUS,
    architecture_of,
    installed,
    suite_of,
)

__all__ = ["Supply", "install", "purge"]

#: on a tmpfs while an image is built, and gone with a machine
_FOLDER = "/run/carthage-packages"
_LONGEST_S = 1800.0
_LAST_LINES = 20
_ENV = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
# nothing of how packages came here, and of when, is to stay in an image
_OPTIONS = (
    "-oAPT::Sandbox::User=root",
    "-oDir::Etc::sourcelist=/dev/null",
    "-oDir::Etc::sourceparts=/dev/null",
    "-oDir::Cache::pkgcache=",
    "-oDir::Cache::srcpkgcache=",
    f"-oDir::State::lists={_FOLDER}/lists",
    f"-oDir::Cache::archives={_FOLDER}",
    "-oDir::Log=/dev/null",
    "-oDir::Log::Terminal=/dev/null",
    "-oDir::Log::History=/dev/null",
    "-oDpkg::Use-Pty=0",
    "-oDpkg::Options::=--force-confdef",
    "-oDpkg::Options::=--force-confold",
    "-oDpkg::Options::=--force-unsafe-io",
    "-oDpkg::Options::=--log=/dev/null",
)
_QUIETLY = ("-y", "-q")


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """By which way packages come to a file system."""

    #: of this host, for lists and downloads
    folder: Path
    #: address of an archive; empty: the host's own
    mirror: str = ""
    #: nothing may be fetched
    offline: bool = False
    #: is told how far it is
    note: Callable[[str], None] = lambda text: None


async def install(system: System, packages: Sequence[str], supply: Supply) -> None:
    """Install packages with what they depend on; those that are there stay.

    :raises TaskError: there is no such package, or it could not be installed.
    """
    _check(packages)
    status = await _status(system)
    there = installed(status)
    missing = [name for name in packages if not _is_there(name, there)]
    if not missing:
        return
    archive = await asyncio.to_thread(
        Archive.of,
        suite=await _suite(system),
        architecture=architecture_of(status),
        mirror=supply.mirror,
    )
    apt = Apt.of(archive, supply.folder, offline=supply.offline)
    try:
        debs, files = await apt.get(status, missing, note=supply.note)
    except BuildError as error:
        raise TaskError(str(error)) from error
    paths = [f"{_FOLDER}/{file.name}" for file in files]
    wanted = {re.split("[:=]", name)[0] for name in missing}
    automatic = [deb.name for deb in debs if deb.name not in wanted]
    async with _folder(system, f"packages {', '.join(missing)} could not be installed"):
        for file, path in zip(files, paths, strict=True):
            await system.bring(file, path, mode=0o644)
        flags = ("--no-install-recommends", "--allow-downgrades")
        await system.run(
            ["apt-get", *_OPTIONS, *_QUIETLY, "install", *flags, *paths],
            env=_ENV,
            timeout_s=_LONGEST_S,
        )
        if automatic:
            await system.run(["apt-mark", *_OPTIONS, "auto", *automatic], env=_ENV)


async def purge(system: System, packages: Sequence[str], *, autoremove: bool) -> None:
    """Remove packages with their configuration; those that are not there are no error.

    :param autoremove: also what nothing needs any more.
    :raises TaskError: they could not be removed.
    """
    there = installed(await _status(system))
    present = [name for name in packages if name.partition(":")[0] in there]
    if not present:
        return
    more = ["--autoremove"] if autoremove else []
    # apt asks for a sentence to be typed where a package is essential
    flags = ("--allow-remove-essential", *more)
    async with _folder(system, f"packages {', '.join(present)} could not be removed"):
        await system.run(
            ["apt-get", *_OPTIONS, *_QUIETLY, "purge", *flags, *present],
            env=_ENV,
            timeout_s=_LONGEST_S,
        )


def _check(packages: Sequence[str]) -> None:
    for name in packages:
        if not is_package(name):
            raise TaskError(
                f"{name!r} is no name of a Debian package; try: one name for each, as in "
                'install("nginx", "figlet")'
            )


@contextlib.asynccontextmanager
async def _folder(system: Runs, failure: str) -> AsyncIterator[None]:
    """The folder that apt uses, while the block runs.

    :raises TaskError: a command failed; ``failure`` is what that means.
    """
    try:
        # what a killed attempt has left is not to be installed with it
        await system.run(f"rm -rf {_FOLDER}; mkdir -p {_FOLDER}/lists/partial {_FOLDER}/partial")
        yield
    except CommandError as error:
        result = error.result
        printed = [
            line for line in f"{result.stdout}\n{result.stderr}".splitlines() if line.strip()
        ]
        last = "\n".join(f"  {line}" for line in printed[-_LAST_LINES:])
        raise TaskError(
            f"{system.who}: {failure}: {str(result.command[0])!r} exited with status "
            f"{result.status}; it printed last:\n{last}"
        ) from error
    finally:
        with contextlib.suppress(Exception):
            await asyncio.shield(system.run(["rm", "-rf", _FOLDER], check=False))


async def _status(system: System) -> bytes:
    try:
        text = await system.read_text(f"/{STATUS}")
    except FileNotFoundError:
        raise TaskError(
            f"{system.who}: it has no dpkg, which installs Debian packages; "
            "try: a base that is Debian or made of it, or a role without packages"
        ) from None
    return text.encode(errors="surrogateescape")


async def _suite(system: System) -> str:
    suite = ""
    with contextlib.suppress(FileNotFoundError):
        suite = suite_of(await system.read_text("/etc/os-release"))
    if not suite:
        raise TaskError(
            f"{system.who}: its /etc/os-release names no suite (VERSION_CODENAME), so that nobody "
            "knows where its packages are; try: a base that is Debian or made of it"
        )
    return suite


def _is_there(name: str, there: dict[str, str]) -> bool:
    bare, _, version = name.partition("=")
    bare = bare.partition(":")[0]
    return bare in there and version in ("", there[bare])
