"""Cloud images as distributions publish them: of Debian's packages, and with nothing of ours.

A disk with a boot loader, Debian's own initrd and cloud-init, which has never been booted.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage import Image
from pytest_carthage.images.builder import ensure
from pytest_carthage.images.exports.disks.bootloader import ROOT_AT_MIB
from pytest_carthage.images.exports.disks.ensuring import ensure_disk

if TYPE_CHECKING:
    from pytest_carthage.portal import Portal

__all__ = ["make_cloud_image"]


def make_cloud_image(image: Image, path: Path, portal: Portal) -> None:
    """Write a disk that boots this image by a boot loader, with the image's own kernel and initrd.

    It is the same file each time: whoever keeps it by its content keeps one.

    :param image: has a kernel and an initrd, as by ``linux-image-cloud-amd64``.
    :param path: of a file in the format qcow2.
    """

    def quiet(who: str, text: str) -> None:
        pass

    built = portal.call(lambda: ensure(image, portal=portal, note=quiet))
    disk = portal.call(lambda: ensure_disk(built, boot="disk"))
    raw = path.with_suffix(".raw")
    subprocess.run(["cp", "--sparse=always", str(disk.path), str(raw)], check=True)
    root = f"{raw}?offset={ROOT_AT_MIB << 20}"
    names = _debugfs("ls -p /boot", root)
    (ours,) = set(re.findall(r"/(initrd\.img-carthage-[^/]+)/", names))
    assert f"/{ours.replace('carthage-', '')}/" in names, f"{image.name} has no initrd: {names}"
    _debugfs(f"rm /boot/{ours}", root)
    _debugfs("rm /etc/kernel/postinst.d/zz-pytest-carthage", root)
    subprocess.run(
        ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(path)], check=True
    )
    raw.unlink()


def _debugfs(command: str, root: str) -> str:
    done = subprocess.run(
        ["debugfs", "-w", "-R", command, root],
        env={"E2FSPROGS_FAKE_TIME": "1", "PATH": "/usr/sbin:/sbin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    said = [line for line in done.stderr.splitlines() if not line.startswith("debugfs ")]
    assert not said, said  # it ends well, whatever happens
    return done.stdout
