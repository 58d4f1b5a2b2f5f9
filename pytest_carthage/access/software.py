"""Packages and units of a file system, whether its machine runs or not."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING

from pytest_carthage.errors import BuildError, CommandError, TaskError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from pytest_carthage.access.filesystem import AsyncFilesystem

__all__ = ["enable", "install", "purge"]

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
    "-y",
    "-q",
)


def _check(packages: Sequence[str]) -> None:
    from pytest_carthage.model.image import is_package

    for name in packages:
        if not is_package(name):
            raise TaskError(
                f"{name!r} is no name of a Debian package; try: one name for each, as in "
                'install("nginx", "figlet")'
            )


async def install(fs: AsyncFilesystem, packages: Sequence[str]) -> None:
    """See :meth:`AsyncFilesystem.install`."""
    _check(packages)
    status = await _status(fs)
    there = _installed(status)
    missing = [name for name in packages if not _is_there(name, there)]
    if not missing:
        return
    from pytest_carthage.images.apt import Apt
    from pytest_carthage.images.store import Store

    store = Store()
    store.prepare()
    apt = Apt.of(
        suite=await _suite(fs),
        architecture=_architecture(status),
        mirror=fs.mirror,
        cache=store.folder("apt"),
        offline=fs.offline,
    )
    try:
        known = status.encode(errors="surrogateescape")
        debs, files = await apt.get(known, missing, note=fs.note)
    except BuildError as error:
        raise TaskError(str(error)) from error
    names = [f"{_FOLDER}/{file.name}" for file in files]
    wanted = {re.split("[:=]", name)[0] for name in missing}
    automatic = [deb.name for deb in debs if deb.name not in wanted]
    async with _folder(fs, f"packages {', '.join(missing)} could not be installed"):
        for file, name in zip(files, names, strict=True):
            await fs._put_file(file, name, 0o644, None)
        flags = ("--no-install-recommends", "--allow-downgrades")
        await fs.run(
            ["apt-get", *_OPTIONS, "install", *flags, *names], env=_ENV, timeout_s=_LONGEST_S
        )
        if automatic:
            await fs.run(["apt-mark", *_OPTIONS[:-2], "auto", *automatic], env=_ENV)


@contextlib.asynccontextmanager
async def _folder(fs: AsyncFilesystem, what: str) -> AsyncIterator[None]:
    """The folder that apt uses, while the block runs.

    :raises TaskError: a command failed; ``what`` is what that means.
    """
    try:
        # what a killed attempt has left is not to be installed with it
        await fs.run(f"rm -rf {_FOLDER}; mkdir -p {_FOLDER}/lists/partial {_FOLDER}/partial")
        yield
    except CommandError as error:
        result = error.result
        printed = [
            line for line in f"{result.stdout}\n{result.stderr}".splitlines() if line.strip()
        ]
        said = "\n".join(f"  {line}" for line in printed[-_LAST_LINES:])
        raise TaskError(
            f"{fs.who}: {what}: {str(result.command[0])!r} exited with status {result.status}; "
            f"it printed last:\n{said}"
        ) from error
    finally:
        with contextlib.suppress(Exception):
            await asyncio.shield(fs.run(["rm", "-rf", _FOLDER], check=False))


async def purge(fs: AsyncFilesystem, packages: Sequence[str], *, autoremove: bool) -> None:
    """See :meth:`AsyncFilesystem.purge`."""
    there = _installed(await _status(fs))
    present = [name for name in packages if name.partition(":")[0] in there]
    if not present:
        return
    more = ["--autoremove"] if autoremove else []
    # apt asks for a sentence to be typed where a package is essential
    command = ["apt-get", *_OPTIONS, "purge", "--allow-remove-essential", *more, *present]
    async with _folder(fs, f"packages {', '.join(present)} could not be removed"):
        await fs.run(command, env=_ENV, timeout_s=_LONGEST_S)


async def enable(fs: AsyncFilesystem, units: Sequence[str], *, no: bool = False) -> None:
    """See :meth:`AsyncFilesystem.enable` and :meth:`AsyncFilesystem.disable`."""
    verb = "disable" if no else "enable"
    runs = await fs.exists("/run/systemd/system")
    try:
        if runs:
            await fs.run(["systemctl", "daemon-reload"])
            await fs.run(["systemctl", verb, "--now", "--quiet", *units])
        else:
            await fs.run(["systemctl", verb, "--quiet", *units], env={"SYSTEMD_OFFLINE": "1"})
    except CommandError as error:
        if error.result.status == 127:
            raise TaskError(
                f"{fs.who}: no systemd to {verb} {', '.join(units)}; "
                'try: the package "systemd-sysv" first'
            ) from error
        raise TaskError(f"{fs.who}: cannot {verb} {', '.join(units)}: {error}") from error


def _installed(status: str) -> dict[str, str]:
    from pytest_carthage.images.apt import installed

    return installed(status.encode(errors="surrogateescape"))


async def _status(fs: AsyncFilesystem) -> str:
    try:
        return await fs.read_text("/var/lib/dpkg/status")
    except FileNotFoundError:
        raise TaskError(
            f"{fs.who}: it has no dpkg, which installs Debian packages; "
            "try: a base that is Debian or made of it, or a role without packages"
        ) from None


async def _suite(fs: AsyncFilesystem) -> str:
    with contextlib.suppress(FileNotFoundError):
        release = await fs.read_text("/etc/os-release")
        match = re.search(r'^VERSION_CODENAME="?([^"\n]+)', release, re.MULTILINE)
        if match:
            return match[1]
        if re.search(r"^ID=debian$", release, re.MULTILINE):
            return "sid"
    raise TaskError(
        f"{fs.who}: its /etc/os-release names no suite (VERSION_CODENAME), so that nobody knows "
        "where its packages are; try: a base that is Debian or made of it"
    )


def _architecture(status: str) -> str:
    match = re.search(r"^Package: dpkg\n(?:.+\n)*?Architecture: (.+)$", status, re.MULTILINE)
    return match[1] if match else "amd64"


def _is_there(name: str, there: dict[str, str]) -> bool:
    bare, _, version = name.partition("=")
    bare = bare.partition(":")[0]
    return bare in there and version in ("", there[bare])
