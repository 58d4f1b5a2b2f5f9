"""A kernel for a disk, and the small initrd that takes it to the root file system.

Sources: the kernel's documents initrd.rst and initramfs-buffer-format.rst; modules.dep(5).
"""

from __future__ import annotations

import asyncio
import gzip
import lzma
import os
import re
import shlex
import shutil
import stat
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.errors import BuildError
from pytest_carthage.images import export

if TYPE_CHECKING:
    from pytest_carthage.images.store import Store
    from pytest_carthage.model.image import ImageConfig

__all__ = ["Kernel", "find_kernel", "locate", "make_initrd"]

#: what the kernel needs until the root file system is there, and what a machine has anyway
_MODULES = (
    "virtio_pci virtio_mmio virtio_blk virtio_scsi sd_mod virtio_net virtio_rng virtio_console "
    "virtio_balloon crc32c_generic crc32c_intel libcrc32c ext4"
).split()
#: by machine: Debian's packages, the smaller first
_PACKAGES = {
    "x86_64": ("linux-image-cloud-amd64", "linux-image-amd64"),
    "aarch64": ("linux-image-cloud-arm64", "linux-image-arm64"),
}
#: where systemd, or another init, is found
_INITS = ("sbin/init", "usr/sbin/init", "usr/lib/systemd/systemd", "lib/systemd/systemd")

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

_COMMAND = """#!/run/carthage/sh
b=/run/carthage/busybox
$b ip link set lo up
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=@HOME@
@ENV@
cd @WORKDIR@
@COMMAND@ < /dev/console > /dev/console 2>&1
echo "carthage: the command ended with status $?" > /dev/console
$b sync
$b poweroff -f
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A kernel with its modules."""

    version: str
    path: Path
    #: folders in which its files are looked for, the top first
    trees: tuple[Path, ...]
    #: folder with ``usr/lib/modules`` that the disk gets; None: its image has them
    modules: Path | None
    busybox: Path


def locate(trees: Sequence[Path], name: str) -> Path | None:
    """A file of merged folders (the top first), links not followed; None: it is not there."""
    for tree in trees:
        path = tree
        for part in Path(name).parts:
            path = path / part
            try:
                info = path.lstat()
            except OSError:
                break
            if stat.S_ISCHR(info.st_mode) and info.st_rdev == 0:
                return None
        else:
            return path
    return None


async def find_kernel(
    trees: Sequence[Path],
    store: Store,
    *,
    doing: str,
    note: export.Note,
    offline: bool = False,
) -> Kernel:
    """The image's own kernel, else Debian's for virtual machines, which is fetched once.

    :raises BuildError: there is none, and none could be fetched.
    :raises HostError: this host lacks what fetches one.
    """
    fetched = await _fetched(store, doing=doing, note=note, offline=offline)
    own = await asyncio.to_thread(_own_kernel, trees)
    if own is None:
        return fetched
    version, path = own
    return Kernel(
        version=version, path=path, trees=tuple(trees), modules=None, busybox=fetched.busybox
    )


def _own_kernel(trees: Sequence[Path]) -> tuple[str, Path] | None:
    names = {path.name for tree in trees for path in tree.glob("boot/vmlinuz-*")}
    for name in sorted(names, key=_by_version, reverse=True):
        path = locate(trees, f"boot/{name}")
        version = name.removeprefix("vmlinuz-")
        if path is not None and _module_file(trees, version, "modules.dep") is not None:
            return version, path
    return None


def _by_version(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


def _module_file(trees: Sequence[Path], version: str, name: str) -> Path | None:
    for folder in ("usr/lib/modules", "lib/modules"):
        found = locate(trees, f"{folder}/{version}/{name}")
        if found is not None:
            return found
    return None


# Debian's kernel


async def _fetched(store: Store, *, doing: str, note: export.Note, offline: bool) -> Kernel:
    machine = os.uname().machine
    folder = store.folder("kernels") / machine
    kernel = _read(folder)
    if kernel is not None:
        return kernel
    names = _PACKAGES.get(machine)
    if names is None:
        raise BuildError(f"{doing}: Debian's kernel for {machine} is not known here")
    if offline:
        raise BuildError(
            f"{doing}: offline, and no kernel was fetched yet ({folder}); "
            "try: save a disk once with a network"
        )
    export.require("apt-get", "dpkg-deb", "depmod")
    async with store.locked(f"kernel-{machine}", note):
        kernel = _read(folder)
        if kernel is None:
            folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            async with export.room(store, doing) as work:
                note("fetching a kernel")
                await _fetch(names, work, doing)
                (work / "ready").rename(folder)
            kernel = _read(folder)
    if kernel is None:
        raise BuildError(f"{doing}: {folder} holds no kernel; try: delete that folder")
    return kernel


def _read(folder: Path) -> Kernel | None:
    try:
        version = (folder / "version").read_text()
    except OSError:
        return None
    modules = folder / "tree"
    return Kernel(
        version=version,
        path=folder / "vmlinuz",
        trees=(modules,),
        modules=modules,
        busybox=folder / "busybox",
    )


async def _fetch(names: Sequence[str], work: Path, doing: str) -> None:
    (work / "ready").mkdir()
    (work / "unpacked").mkdir()
    host = ["-o", f"Dir::Cache={work}/cache", "-o", "APT::Sandbox::User=root"]
    own = [*host, "-o", f"Dir::State={work}/state"]
    try:
        await _download(names, work, host, doing)
    except BuildError:
        # the host's lists are missing or old; its own are not touched
        for name in ("state/lists/partial", "cache/archives/partial"):
            (work / name).mkdir(parents=True, exist_ok=True)
        advice = "try: apt-get update, or an image with packages=['linux-image-cloud-amd64']"
        await export.run(["apt-get", "update", *own], doing=doing, advice=lambda said: advice)
        await _download(names, work, own, doing, advice)
    for path in await asyncio.to_thread(lambda: sorted(work.glob("*.deb"))):
        await export.run(
            ["dpkg-deb", "-x", str(path), str(work / "unpacked")], doing=doing, places=[work]
        )
    await asyncio.to_thread(_arrange, work)
    version = (work / "ready" / "version").read_text()
    await export.run(
        ["depmod", "--basedir", str(work / "ready/tree"), version], doing=doing, places=[work]
    )
    # what modprobe looks for, wherever lib is a folder of its own
    usr = work / "ready/tree/usr"
    (work / "ready/tree/lib").rename(usr / "lib")


async def _download(
    names: Sequence[str], work: Path, options: Sequence[str], doing: str, advice: str = ""
) -> None:
    packages: list[str] = []
    said = ""
    for name in names:
        try:
            told = await export.run(["apt-cache", *options, "depends", name], doing=doing)
        except BuildError as error:  # apt does not know it
            said = str(error)
            continue
        packages = re.findall(r"^\s+Depends: (linux-image-\S+)$", told, re.MULTILINE)
        if packages:
            break
    if not packages:
        what = f"{doing}: no kernel: this host's apt has no {' and no '.join(names)}"
        raise BuildError(f"{what}\n{said.removeprefix(f'{doing}: ')}\n{advice}".strip())
    script = 'cd "$1"; shift; exec apt-get "$@"'
    await export.run(
        [
            *("sh", "-c", script, "apt-get", str(work)),
            *("download", "--quiet", *options, packages[0], "busybox-static"),
        ],
        program="apt-get download",
        doing=doing,
        places=[work],
        advice=lambda said: advice,
    )


def _arrange(work: Path) -> None:
    unpacked, ready = work / "unpacked", work / "ready"
    (path,) = unpacked.glob("boot/vmlinuz-*")
    version = path.name.removeprefix("vmlinuz-")
    path.rename(ready / "vmlinuz")
    (ready / "vmlinuz").chmod(0o644)
    (ready / "version").write_text(version)
    (busybox,) = (one for one in unpacked.glob("**/bin/busybox") if one.is_file())
    busybox.rename(ready / "busybox")
    (modules,) = unpacked.glob(f"**/lib/modules/{version}")
    (ready / "tree/usr").mkdir(parents=True)
    # depmod looks for lib/modules
    (ready / "tree/lib/modules").mkdir(parents=True)
    shutil.move(modules, ready / "tree/lib/modules")


# the initrd


def make_initrd(kernel: Kernel, config: ImageConfig, trees: Sequence[Path] = ()) -> bytes:
    """An initrd that mounts the disk, and starts systemd there, or else the image's command.

    :param trees: the image's, the top first: who its users are.
    :raises BuildError: a module of the kernel cannot be read, or the command's user is unknown.
    """
    cpio = _Cpio()
    for name in ("bin", "dev", "modules"):
        cpio.add(name, stat.S_IFDIR | 0o755)
    cpio.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    cpio.add("bin/busybox", stat.S_IFREG | 0o755, kernel.busybox.read_bytes())
    cpio.add("init", stat.S_IFREG | 0o755, _INIT.replace("@INITS@", " ".join(_INITS)).encode())
    if not has_init(trees):
        cpio.add("command", stat.S_IFREG | 0o755, _command(config, trees).encode())
    for number, (name, data) in enumerate(_modules(kernel)):
        cpio.add(f"modules/{number:03}-{name}.ko", stat.S_IFREG | 0o644, data)
    return gzip.compress(cpio.end(), 6, mtime=0)


def has_init(trees: Sequence[Path]) -> bool:
    """Whether an image has systemd or another init."""
    return any(locate(trees, name) is not None for name in _INITS)


def _command(config: ImageConfig, trees: Sequence[Path]) -> str:
    program, *arguments = config.command or ("/bin/sh",)
    owner, home = _user(config.user, trees)
    command = shlex.join([program, *arguments])
    if owner:
        command = f"$b start-stop-daemon -S -c {owner} -x {shlex.quote(program)} -- "
        command += shlex.join(arguments)
    env = [f"export {name}={shlex.quote(value)}" for name, value in config.env]
    parts = {
        "@HOME@": shlex.quote(home),
        "@ENV@": "\n".join(env),
        "@WORKDIR@": shlex.quote(config.workdir or "/"),
        "@COMMAND@": command,
    }
    return re.sub("|".join(parts), lambda match: parts[match[0]], _COMMAND)


def _user(user: str, trees: Sequence[Path]) -> tuple[str, str]:
    """Numbers of a user and a group (empty: root), and the home; as runtimes of OCI find them."""
    name, _, group = user.partition(":")
    if name in ("", "0", "root") and not group:
        return "", "/root"
    users, groups = (_table(trees, file) for file in ("etc/passwd", "etc/group"))
    row = next((row for row in users if name in (row[0], row[2])), None)
    found = next((row[2] for row in groups if group and group in (row[0], row[2])), group)
    # busybox starts nothing for somebody who is not there, not even by number
    if row is None or not (found or row[3]).isdigit():
        raise BuildError(
            f"user {user!r} of the command is not in the image's /etc/passwd or /etc/group; "
            "try: another user=, or a task that adds this one"
        )
    return f"{row[2]}:{found or row[3]}", row[5] or "/"


def _table(trees: Sequence[Path], name: str) -> list[list[str]]:
    path = locate(trees, name)
    lines = [] if path is None else path.read_text(errors="replace").splitlines()
    return [[*line.split(":"), "", "", "", "", "", ""] for line in lines]


def _modules(kernel: Kernel) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each module that is loaded, in this order."""
    listing = _module_file(kernel.trees, kernel.version, "modules.dep")
    if listing is None:
        raise BuildError(f"kernel {kernel.version}: no modules.dep beside its modules")
    needs: dict[str, list[str]] = {}
    by_name: dict[str, str] = {}
    for line in listing.read_text().splitlines():
        path, _, others = line.partition(":")
        needs[path] = others.split()
        by_name[_module_name(path)] = path
    done: set[str] = set()
    for name in _MODULES:
        wanted = by_name.get(name)
        if wanted is None:
            continue  # built in, or this kernel has none
        for path in [*reversed(needs[wanted]), wanted]:
            if path not in done:
                done.add(path)
                yield _module_name(path), _read_module(kernel, path)


def _module_name(path: str) -> str:
    return Path(path).name.split(".")[0].replace("-", "_")


def _read_module(kernel: Kernel, name: str) -> bytes:
    path = _module_file(kernel.trees, kernel.version, name)
    if path is None:
        raise BuildError(f"kernel {kernel.version}: no module {name}")
    data = path.read_bytes()
    if name.endswith(".xz"):
        return lzma.decompress(data)
    if name.endswith(".zst"):
        export.require("zstd")
        return subprocess.run(
            ["zstd", "-dcq"], input=data, stdout=subprocess.PIPE, check=True
        ).stdout
    return gzip.decompress(data) if name.endswith(".gz") else data


class _Cpio:
    """An archive in the new portable format, as the kernel unpacks it."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._number = 0

    def add(
        self, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)
    ) -> None:
        """Add an entry."""
        self._number += 1
        told = name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(mode) else 1
        fields = (self._number, mode, 0, 0, links, 0, len(data), 0, 0, *device, len(told), 0)
        self._data += b"070701" + b"".join(b"%08X" % field for field in fields) + told
        self._pad()
        self._data += data
        self._pad()

    def end(self) -> bytes:
        """The whole archive."""
        self.add("TRAILER!!!", 0)
        return bytes(self._data)

    def _pad(self) -> None:
        self._data += bytes(-len(self._data) % 4)
