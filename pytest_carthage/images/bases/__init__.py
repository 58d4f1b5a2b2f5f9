"""What images begin with: one module for each kind of base."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.errors import Problem
from pytest_carthage.fabric import privilege
from pytest_carthage.fabric.programs import PATH, missing

if TYPE_CHECKING:
    from pytest_carthage.model.image import Image, Kind

__all__ = ["BaseResult", "BaseTools", "base_inputs", "check_tools", "make_base"]

_KEYRINGS = Path("/usr/share/keyrings")
#: the first util-linux that has ``unshare --map-auto``
_UTIL_LINUX = (2, 38)


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseTools:
    """What the making of a base is given."""

    #: is told what happens, in a few words
    note: Callable[[str], None]
    #: nothing is fetched; what is missing is named
    offline: bool = False
    #: False: it is done in a user namespace, with the subordinate ids of this user
    privileged: bool = True
    #: folder for what is worth keeping between builds
    cache: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseResult:
    """What is known of a base beside its files."""

    #: ``command`` (a list or None), ``env``, ``labels``, ``user``, ``workdir``; or nothing
    config: Mapping[str, Any] = field(default_factory=dict)
    #: what it was made of: the id of an image, the hash of a file; empty where nothing was said
    digest: str = ""


async def base_inputs(image: Image) -> dict[str, str]:
    """What a base is made of: paths and references, to hashes of what they are now.

    :raises BuildError: something of it is not there, or cannot be read.
    """
    match image.kind:
        case "debian":
            return {}
        case "oci":
            from pytest_carthage.images.bases import oci

            return await oci.inputs(image)
        case "rootfs":
            from pytest_carthage.images.bases import rootfs

            return await rootfs.inputs(image)
        case "containerfile":
            from pytest_carthage.images.bases import containerfile

            return await containerfile.inputs(image)
        case "disk":
            from pytest_carthage.images.bases import disk

            return await disk.inputs(image)


async def make_base(image: Image, tree: Path, tools: BaseTools) -> BaseResult:
    """Fill an empty folder with the files of a base.

    When it fails or is cancelled, no process or mount is left; the folder is the caller's.

    :raises BuildError: it cannot be made, with the tool's last lines.
    :raises HostError: this host lacks what makes it.
    """
    problems = await asyncio.to_thread(check_tools, [image.kind], privileged=tools.privileged)
    if problems:
        from pytest_carthage.errors import HostError

        raise HostError(problems)
    match image.kind:
        case "debian":
            from pytest_carthage.images.bases import debian

            return await debian.make(image, tree, tools)
        case "oci":
            from pytest_carthage.images.bases import oci

            return await oci.make(image, tree, tools)
        case "rootfs":
            from pytest_carthage.images.bases import rootfs

            return await rootfs.make(image, tree, tools)
        case "containerfile":
            from pytest_carthage.images.bases import containerfile

            return await containerfile.make(image, tree, tools)
        case "disk":
            from pytest_carthage.images.bases import disk

            return await disk.make(image, tree, tools)


_PROGRAMS: Mapping[str, tuple[tuple[str, str, str], ...]] = {
    "debian": (
        ("mmdebstrap", "mmdebstrap", "makes Debian images"),
        ("apt-get", "apt", "fetches Debian packages"),
    ),
    "oci": (("skopeo", "skopeo", "reads container images"),),
    "rootfs": (("tar", "tar", "unpacks root file systems"),),
    "containerfile": (
        ("podman", "podman", "builds Containerfiles"),
        ("skopeo", "skopeo", "reads container images"),
    ),
    "disk": (
        ("qemu-img", "qemu-utils", "reads disk images"),
        ("partx", "util-linux", "finds the partitions of a disk"),
        ("blkid", "util-linux", "tells file systems apart"),
    ),
}


def check_tools(kinds: Iterable[Kind], *, privileged: bool | None = None) -> list[Problem]:
    """List what this host lacks to make images of these kinds; nothing is changed."""
    if privileged is None:
        privileged = privilege.is_privileged()
    problems: dict[Problem, None] = {}
    for kind in dict.fromkeys(kinds):
        for program, package, purpose in _PROGRAMS[kind]:
            problems.update(dict.fromkeys(missing("images", {program: package}, purpose)))
        if kind == "debian" and not any(_KEYRINGS.glob("debian-archive-keyring.*")):
            problems[
                Problem(
                    who="images",
                    what="no debian-archive-keyring, which proves that packages are Debian's",
                    remedy="apt-get install debian-archive-keyring",
                    packages=("debian-archive-keyring",),
                )
            ] = None
        if kind == "disk" and not privileged:
            found = missing("images", {"debugfs": "e2fsprogs"}, "reads file systems without root")
            problems.update(dict.fromkeys(found))
    if not privileged:
        problems.update(dict.fromkeys(_user_namespace_problems()))
    return list(problems)


def _user_namespace_problems() -> list[Problem]:
    """What keeps a plain user from being root in a namespace with more than one id."""
    problems = list(privilege.user_namespace_problems())
    problems += missing(
        "images", {"newuidmap": "uidmap"}, "gives files of images other owners without root"
    )
    version = _util_linux()
    if version is not None and version < _UTIL_LINUX:
        seen = ".".join(map(str, version))
        problems.append(
            Problem(
                who="images",
                what=f"util-linux {seen}, whose unshare has no --map-auto (2.38 has)",
                remedy="build images as root, or upgrade util-linux",
            )
        )
    name, uid = _user(), os.geteuid()
    for file in ("/etc/subuid", "/etc/subgid"):
        if not _has_range(Path(file), name, uid):
            ids = "100000-165535"
            problems.append(
                Problem(
                    who="images",
                    what=f"no subordinate ids for user {name} in {file}",
                    remedy=f"usermod --add-subuids {ids} --add-subgids {ids} {name}",
                )
            )
    return problems


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _has_range(file: Path, name: str, uid: int) -> bool:
    try:
        rows = [line.split(":") for line in file.read_text().splitlines()]
    except OSError:
        return False
    return any(len(row) == 3 and row[0] in (name, str(uid)) for row in rows)


def _util_linux() -> tuple[int, int] | None:
    """Version of unshare(1); None: not known."""
    unshare = shutil.which("unshare", path=PATH)
    if unshare is None:
        return None
    told = subprocess.run(
        [unshare, "--version"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    found = re.search(r"(\d+)\.(\d+)", told)
    return None if found is None else (int(found[1]), int(found[2]))
