"""Programs of the host that make archives and disks of images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pytest_carthage.errors import HostError, Problem
from pytest_carthage.fabric.host.execution import run
from pytest_carthage.fabric.host.programs import missing
from pytest_carthage.images.exports.failures import program_failure

__all__ = ["check_tools", "completed", "require"]

#: program -> Debian package, and what ends the sentence "no skopeo, which ..."
_TOOLS = {
    "skopeo": ("skopeo", "brings images to podman and to registries"),
    "mke2fs": ("e2fsprogs", "makes the file systems of disks"),
    "qemu-img": ("qemu-utils", "makes qcow2 disks"),
    "mformat": ("mtools", "makes what UEFI boots from"),
    "depmod": ("kmod", "orders the modules of a disk's kernel"),
    "dpkg-deb": ("dpkg", "unpacks a disk's kernel"),
    "apt-get": ("apt", "fetches a disk's kernel"),
    "podman": ("podman", "keeps tagged images"),
    "gzip": ("gzip", "compresses .gz"),
    "zstd": ("zstd", "compresses .zst"),
    "xz": ("xz-utils", "compresses .xz"),
}
_FOR_DOCTOR = ("skopeo", "mke2fs", "qemu-img", "depmod")


def check_tools(programs: Sequence[str] = _FOR_DOCTOR) -> list[Problem]:
    """List what this host lacks to make archives and disks of images."""
    return [
        problem
        for name in programs
        for problem in missing("images", {name: _TOOLS[name][0]}, _TOOLS[name][1])
    ]


def require(*programs: str) -> None:
    """Make sure that programs are there.

    :raises HostError: some are not.
    """
    problems = check_tools(programs)
    if problems:
        raise HostError(problems)


async def completed(
    argv: Sequence[str],
    *,
    doing: str,
    program: str = "",
    places: Sequence[Path] = (),
    env: Mapping[str, str] | None = None,
    advice: Callable[[str], str] = lambda said: "",
) -> str:
    """Run a program to its good end; returns what it printed.

    :param doing: begins the message, as in ``"image 'x': saved as y"``.
    :param program: what it is called in the message, by default by its own name.
    :param places: folders of which to tell the free space when a disk was full.
    :param advice: what to do about what it said; by default nothing is told.
    :raises BuildError: it failed, with its last lines.
    """
    ended = await run(argv, env=env, keep_output=True)
    if ended.status == 0:
        return ended.output.decode(errors="replace")
    said = "\n".join(ended.lines)
    raise program_failure(doing, program or argv[0], ended.status, said, places, advice(said))
