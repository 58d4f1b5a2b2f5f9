"""What of a host makes bases: programs, and what a user without privileges needs."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.errors import Problem
from pytest_carthage.fabric.host import privilege, subids
from pytest_carthage.fabric.host.programs import PATH, missing

if TYPE_CHECKING:
    from pytest_carthage.model.image import Image, Kind

__all__ = ["check_tools", "missing_to_build"]

_KEYRINGS = Path("/usr/share/keyrings")
#: the first util-linux that has ``unshare --map-auto``
_UTIL_LINUX = (2, 38)

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


def missing_to_build(images: Iterable[Image]) -> list[Problem]:
    """List what this host lacks to make those of these images that are still to be built."""
    from pytest_carthage.store.root import Store

    store = Store()
    wanted = {image.kind for image in images if not store.is_complete(image.key)}
    return check_tools(wanted) if wanted else []


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
            purpose = "reads file systems without root"
            lacking = missing("images", {"debugfs": "e2fsprogs"}, purpose)
            problems.update(dict.fromkeys(lacking))
    if not privileged:
        problems.update(dict.fromkeys(_user_namespace_problems()))
    return list(problems)


def _user_namespace_problems() -> list[Problem]:
    """What keeps a plain user from being root in a namespace with more than one id."""
    problems = list(privilege.user_namespace_problems())
    problems += subids.problems("images")
    version = _util_linux()
    if version is not None and version < _UTIL_LINUX:
        number = ".".join(map(str, version))
        problems.append(
            Problem(
                who="images",
                what=f"util-linux {number}, whose unshare has no --map-auto (2.38 has)",
                remedy="build images as root, or upgrade util-linux",
            )
        )
    return problems


def _util_linux() -> tuple[int, int] | None:
    """Version of unshare(1); None: not known."""
    unshare = shutil.which("unshare", path=PATH)
    if unshare is None:
        return None
    text = subprocess.run(
        [unshare, "--version"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    version = re.search(r"(\d+)\.(\d+)", text)
    return None if version is None else (int(version[1]), int(version[2]))
