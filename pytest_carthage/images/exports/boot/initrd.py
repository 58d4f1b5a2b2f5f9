"""The initrd of a disk: it mounts the root file system, and starts what is there.

A second disk may have a *seed*, which tells the machine what it is: a line with the length and
the SHA-256 of a tar, and from the next sector on that. Its member ``apply`` is a script that is
run before anything of the root file system is.
"""

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

__all__ = ["SEED_MAGIC", "SEED_SERIAL", "SOURCE", "make_initrd"]

#: serial number of the disk that has a machine's seed, and how that begins
SEED_SERIAL = "carthage-seed"
SEED_MAGIC = "carthage-seed-1"

_INIT = """#!/bin/busybox sh
# its shell runs its other programs, once there is /proc
/bin/busybox mount -t proc proc /proc
export PATH=/bin
has_file() {
    for path; do if [ -e "/root/$path" ] || [ -L "/root/$path" ]; then return 0; fi; done
    return 1
}
fail() { echo "carthage: $1" > /dev/console; sync; poweroff -f; }
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
modprobe -a @MODULES@ 2>/dev/null
root=/dev/vda
for word in $(cat /proc/cmdline); do
    case $word in root=*) root=${word#root=} ;; esac
done
tries=0
find_root() {
    case $root in
        UUID=*) found=$(findfs "$root" 2>/dev/null) ;;
        *) found=$root ;;
    esac
    [ -n "$found" ] && [ -b "$found" ]
}
while ! find_root; do
    tries=$((tries + 1))
    [ $tries -lt 1000 ] || fail "no disk $root"
    usleep 20000
done
mount -t ext4 -o rw "$found" /root || fail "$found cannot be mounted"
mkdir -p /root/proc /root/sys /root/dev /root/run /root/tmp
mount -t tmpfs -o mode=0755,nosuid,nodev tmpfs /root/run
for block in /sys/block/vd*; do
    [ "$(cat "$block/serial" 2>/dev/null)" = @SERIAL@ ] || continue
    device=/dev/${block##*/}
    # a CD is for cloud-init
    [ "$(dd if="$device" bs=1 skip=32769 count=5 2>/dev/null)" != CD001 ] || continue
    head -c 512 "$device" > /seed.head # a line without an end would be read byte by byte
    read -r magic length sum < /seed.head
    [ "$magic" = @MAGIC@ ] || fail "the seed disk $device has no seed"
    tail -c +513 "$device" | head -c "$length" > /seed.tar
    echo "$sum  /seed.tar" | sha256sum -c > /dev/null 2>&1 || fail "the seed on $device is damaged"
    tar -x -f /seed.tar -C /seed || fail "the seed on $device cannot be unpacked"
    . /seed/apply
    break
done
# the kernel asks for modules (nftables has many), also where the image has nobody who loads them
if ! has_file sbin/modprobe usr/sbin/modprobe; then
    mkdir -p /root/run/carthage
    cp /bin/busybox /root/run/carthage/modprobe
    echo /run/carthage/modprobe > /proc/sys/kernel/modprobe
fi
start=
for init in @INITS@; do
    if [ -z "$start" ] && { [ -e "/root/$init" ] || [ -L "/root/$init" ]; }; then start=/$init; fi
done
if [ -z "$start" ]; then
    start=/run/carthage/init
    mkdir -p /root/run/carthage
    cp /bin/busybox /root/run/carthage/sh
    cp /bin/busybox /root/run/carthage/busybox
    [ -e "/root$start" ] || cp /command "/root$start"
fi
for folder in dev sys proc; do /bin/busybox mount -o move /$folder /root/$folder; done
exec /bin/busybox switch_root /root "$start"
""".replace("@SERIAL@", SEED_SERIAL).replace("@MAGIC@", SEED_MAGIC)

#: part of the key of each disk: what an initrd does
SOURCE = _INIT


def make_initrd(kernel: Kernel, config: ImageConfig, trees: Sequence[Path] = ()) -> bytes:
    """An initrd that mounts the disk, and starts systemd there, or else the image's command.

    :param trees: the image's, the top first: who its users are.
    :raises BuildError: a module of the kernel cannot be read, or the command's user is unknown.
    """
    cpio = Cpio()
    modules = f"lib/modules/{kernel.version}"
    for name in ("bin", "dev", "lib", "lib/modules", modules, "proc", "root", "seed", "sys"):
        cpio.add(name, stat.S_IFDIR | 0o755)
    cpio.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    cpio.add("bin/busybox", stat.S_IFREG | 0o755, kernel.busybox.read_bytes())
    if not has_init(trees):
        cpio.add("command", stat.S_IFREG | 0o755, command_script(config, trees).encode())
    names: list[str] = []
    for name, data in modules_of(kernel):
        # each needs at most what comes before it
        cpio.add(f"{modules}/{name}.ko", stat.S_IFREG | 0o644, data)
        names.append(name)
    lines = [f"{name}.ko:\n" for name in names]
    cpio.add(f"{modules}/modules.dep", stat.S_IFREG | 0o644, "".join(lines).encode())
    init = _INIT.replace("@INITS@", " ".join(INITS)).replace("@MODULES@", " ".join(names))
    cpio.add("init", stat.S_IFREG | 0o755, init.encode())
    return gzip.compress(cpio.end(), 6, mtime=0)
