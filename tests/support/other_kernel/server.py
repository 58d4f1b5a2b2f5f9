"""A disk with a Debian on it whose first process is systemd, for a guest that is a server."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pytest_carthage import Image
from pytest_carthage.images.builder import ensure
from pytest_carthage.images.exports.tarball import save_tarball
from pytest_carthage.portal import Portal
from tests.providers.conftest import DEBIAN, UNPACKED

__all__ = ["MOUNT", "make_disk"]

#: what a server has beside the image of machines: sessions of users, and what ``doctor`` asks for
_PACKAGES = (
    *("dbus-user-session", "libpam-systemd", "passwd", "uidmap"),
    *("bird2", "dnsmasq-base", "isc-dhcp-client", "nftables", "tcpdump"),
)
_SIZE = "6G"
#: of the tests' image, for those who unpack it in the guest
_TAR = "/srv/debian.tar"

#: steps of the initramfs: what the host shares is at the same places in the guest
MOUNT = """mkdir -p /lower /root /dev
mount -t devtmpfs dev /dev
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro host /lower
mount -t ext4 /dev/vda /root
mount -t tmpfs tmpfs /root/run
for path in {shared}; do mount --bind /lower$path /root$path; done
mount --bind /lower{kernel}/lib/modules /root/usr/lib/modules
umount /dev /proc
exec switch_root /root /lib/systemd/systemd
"""

_UNIT = f"""[Unit]
Description=The command that this guest is for
After=multi-user.target
[Service]
Type=oneshot
Environment=HOME=/root LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 {UNPACKED}={_TAR}
Environment=HYPOTHESIS_STORAGE_DIRECTORY=/var/tmp/hypothesis
Environment=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ExecStart=/bin/sh /etc/command
"""

_COMMAND = """exec > /dev/ttyS0 2>&1
echo /usr/local/sbin/modprobe > /proc/sys/kernel/modprobe
modprobe -a bridge br_netfilter fuse nf_tables overlay tun veth
chmod 666 /dev/fuse /dev/net/tun  # as udev does
cd {folder}
{command}
echo "{ended}$?"
systemctl poweroff --force --force
"""


def make_disk(
    target: Path, repository: Path, command: Sequence[str], *, busybox: Path, ended: str
) -> list[Path]:
    """Make the disk of a guest that runs a command; returns folders of the host that it needs.

    :param ended: what is printed before the status of the command.
    """
    folder = target.with_name("tree")
    folder.mkdir()
    _save(DEBIAN.with_packages(*_PACKAGES), target.with_name("server.tar"))
    unpack = ["tar", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf"]
    subprocess.run([*unpack, target.with_name("server.tar"), "-C", folder], check=True)
    _save(DEBIAN, folder / _TAR.lstrip("/"))
    files = {
        "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
        "etc/hostname": "other-kernel\n",
        "etc/hosts": "127.0.0.1 localhost other-kernel\n",
        "etc/systemd/system/command.service": _UNIT,
        "etc/command": _COMMAND.format(
            folder=shlex.quote(str(repository)), command=shlex.join(command), ended=ended
        ),
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    # what the host shares may lie below it
    (folder / "etc/tmpfiles.d/tmp.conf").symlink_to("/dev/null")
    wanted = folder / "etc/systemd/system/default.target.wants"
    wanted.mkdir(parents=True, exist_ok=True)
    (wanted / "command.service").symlink_to("/etc/systemd/system/command.service")
    shared = _shared(repository)
    for path in shared:
        inside = folder / str(path).lstrip("/")
        inside.mkdir(parents=True, exist_ok=True)
        for each in inside.parents:
            if each.is_relative_to(folder):
                each.chmod(each.stat().st_mode | 0o555)
    (folder / "usr/lib/modules").mkdir(exist_ok=True)
    # it reads the lists that busybox's depmod has written
    shutil.copy(busybox, folder / "usr/local/sbin/modprobe")
    subprocess.run(
        ["mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-d", folder, target, _SIZE], check=True
    )
    subprocess.run(["rm", "-rf", "--", folder], check=True)
    return shared


def _save(image: Image, path: Path) -> None:
    with contextlib.closing(Portal()) as portal:
        built = portal.call(
            lambda: ensure(image, portal=portal, note=lambda who, text: print(f"{who}: {text}"))
        )
    asyncio.run(save_tarball(built, path))


def _shared(repository: Path) -> list[Path]:
    """This Python and this checkout, each once."""
    paths = {Path(sys.base_prefix), Path(sys.prefix), repository}
    return sorted(path for path in paths if not any(path.is_relative_to(p) for p in paths - {path}))
