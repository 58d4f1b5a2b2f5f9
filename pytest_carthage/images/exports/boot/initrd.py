"""The initrd of a disk: it mounts the root file system, and starts what is there."""

from __future__ import annotations

import gzip
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.images.exports.boot.command import command_script
from pytest_carthage.images.exports.boot.cpio import Cpio
from pytest_carthage.images.exports.boot.kernel import modules_of
from pytest_carthage.images.exports.boot.merged import INITS, has_init

if TYPE_CHECKING:
    from pytest_carthage.images.exports.boot.kernel import Kernel
    from pytest_carthage.model.image import ImageConfig

__all__ = ["make_initrd"]

_INIT = """#!/bin/busybox sh
export PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /root
/bin/busybox --install -s /bin
fail() { echo "carthage: $1" > /dev/console; sync; poweroff -f; }
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in /modules/*; do insmod "$module" 2>/dev/null; done
root=/dev/vda
for word in $(cat /proc/cmdline); do
    case $word in root=*) root=${word#root=} ;; esac
done
tries=0
while [ ! -b "$root" ]; do
    tries=$((tries + 1))
    [ $tries -lt 1000 ] || fail "no disk $root"
    usleep 20000
done
mount -t ext4 -o rw "$root" /root || fail "$root cannot be mounted"
mkdir -p /root/proc /root/sys /root/dev /root/run /root/tmp
for folder in proc sys dev; do mount -o move /$folder /root/$folder; done
mount -t tmpfs -o mode=0755,nosuid,nodev tmpfs /root/run
for init in @INITS@; do
    if [ -e "/root/$init" ] || [ -L "/root/$init" ]; then exec switch_root /root "/$init"; fi
done
mkdir /root/run/carthage
cp /bin/busybox /root/run/carthage/sh
cp /bin/busybox /root/run/carthage/busybox
cp /command /root/run/carthage/init
exec switch_root /root /run/carthage/init
"""


def make_initrd(kernel: Kernel, config: ImageConfig, trees: Sequence[Path] = ()) -> bytes:
    """An initrd that mounts the disk, and starts systemd there, or else the image's command.

    :param trees: the image's, the top first: who its users are.
    :raises BuildError: a module of the kernel cannot be read, or the command's user is unknown.
    """
    cpio = Cpio()
    for name in ("bin", "dev", "modules"):
        cpio.add(name, stat.S_IFDIR | 0o755)
    cpio.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    cpio.add("bin/busybox", stat.S_IFREG | 0o755, kernel.busybox.read_bytes())
    cpio.add("init", stat.S_IFREG | 0o755, _INIT.replace("@INITS@", " ".join(INITS)).encode())
    if not has_init(trees):
        cpio.add("command", stat.S_IFREG | 0o755, command_script(config, trees).encode())
    for number, (name, data) in enumerate(modules_of(kernel)):
        cpio.add(f"modules/{number:03}-{name}.ko", stat.S_IFREG | 0o644, data)
    return gzip.compress(cpio.end(), 6, mtime=0)
