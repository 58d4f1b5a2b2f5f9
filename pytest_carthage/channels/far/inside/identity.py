"""What a machine has to itself, though its memory was another one's or is of an earlier time."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

# see random(4)
_RNDADDENTROPY = 0x40085203
_RNDRESEEDCRNG = 0x5207
_BOOT_ID_FILE = "/proc/sys/kernel/random/boot_id"
#: what its initrd leaves there, see the script that applies a seed
_RUN = "/run/carthage"
_BUSYBOX = _RUN + "/busybox"
_NETWORK = "/usr/lib/pytest-carthage/network"
_SETTINGS = "/etc/sysctl.d/50-carthage.conf"
_SEED_MARK = "/var/lib/pytest-carthage/seed"
_SEED_SERIAL = "carthage-seed"
_SECTOR = 512
_VIRTIO_NET = "/sys/bus/virtio/drivers/virtio_net"
_SIOCSIFNAME = 0x8923


def renew(message: Mapping[str, Any]) -> dict[str, Any]:
    """Have the clock say what time it is, in seconds, and random numbers be nobody else's.

    Tells what could not be done, and what its kernel calls its boot.
    """
    failed = []
    try:
        time.clock_settime(time.CLOCK_REALTIME, message["time"])
    except OSError as error:
        failed.append(f"its clock could not be set: {error}")
    try:
        _stir(bytes.fromhex(message["entropy"]))
    except OSError as error:
        failed.append(f"its random numbers could not be renewed: {error}")
    with open(_BOOT_ID_FILE) as file:
        return {"failed": failed, "boot": file.read().strip()}


def _stir(entropy: bytes) -> None:
    fd = os.open("/dev/urandom", os.O_RDWR | os.O_CLOEXEC)
    try:
        size = len(entropy)
        fcntl.ioctl(fd, _RNDADDENTROPY, struct.pack("ii", size * 8, size) + entropy)
        fcntl.ioctl(fd, _RNDRESEEDCRNG)
    finally:
        os.close(fd)


def become(message: Mapping[str, Any]) -> dict[str, Any]:
    """Be the machine that the seed tells of, which is on a disk of its own.

    Its files are taken as at a boot. Its cards are found anew, so that they have the addresses of
    the hardware that is there now. What is told of the boot, and what is written of it, is new.

    :param message: ``boot_id``, and ``gone``: files that were for the other one only.
    """
    failed = renew(message)["failed"]
    members = {name: data for name, _, _, data in _archived(_seed())}
    groups = _groups()
    for group in groups:
        _unpack(members.get(group + ".tar", b""), "/run" if group == "run" else "/")
    os.makedirs(os.path.dirname(_SEED_MARK), exist_ok=True)
    # the script has it where it looks whether it was here before
    _write(_SEED_MARK, members["apply"].split(b" != ", 1)[1].split(b" ", 1)[0] + b"\n", 0o644)
    with open("/etc/hostname") as file:
        socket.sethostname(file.read().strip())
    _write(_RUN + "/boot_id", message["boot_id"].encode() + b"\n", 0o444)
    _spawned([_BUSYBOX, "mount", "-o", "bind", _RUN + "/boot_id", _BOOT_ID_FILE], failed)
    for path in message["gone"]:
        if os.path.lexists(path):
            os.unlink(path)
    _plug_anew(dict(line.split() for line in members["cards"].decode().splitlines()))
    for path, value in _settings(_SETTINGS):
        try:
            with open(path, "w") as file:
                file.write(value)
        except OSError as error:
            failed.append(f"{path} could not be set: {error}")
    if "script" in groups:
        _spawned(["/bin/sh", _NETWORK], failed)
    for pid in _called("systemd-journald"):
        os.kill(pid, signal.SIGTERM)  # systemd starts it again
    return {"failed": failed}


def _settings(path: str) -> Iterator[tuple[str, str]]:
    """What a file for sysctl(8) sets, each by its file; those of others were set when it booted."""
    try:
        with open(path) as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        name, _, value = line.partition("=")
        if value:
            yield "/proc/sys/" + name.strip().replace(".", "/"), value.strip()


def _spawned(argv: list[str], failed: list[str]) -> None:
    status = os.spawnv(os.P_WAIT, argv[0], argv)
    if status:
        failed.append(f"{' '.join(argv)} ended with status {status}")


def _groups() -> list[str]:
    """Parts of a seed that are for this machine, by what its image has; as its initrd decides."""
    groups = ["root", "run"]
    if os.path.lexists("/etc/ssh"):
        groups.append("ssh")
    if _has("usr/lib/systemd/systemd", "lib/systemd/systemd"):
        groups.append("units")
        if _has("sbin/ifup", "usr/sbin/ifup"):
            groups.append("ifupdown")
        elif _has("usr/lib/systemd/systemd-networkd", "lib/systemd/systemd-networkd") and _has(
            "usr/lib/systemd/systemd-udevd", "lib/systemd/systemd-udevd"
        ):
            groups.append("networkd")
        else:
            groups.append("script")
    return groups


def _has(*paths: str) -> bool:
    return any(os.path.lexists("/" + path) for path in paths)


def _seed() -> bytes:
    """The archive on the disk with the seed."""
    for name in sorted(os.listdir("/sys/block")):
        try:
            with open("/sys/block/" + name + "/serial") as file:
                if file.read().strip() != _SEED_SERIAL:
                    continue
        except OSError:
            continue
        with open("/dev/" + name, "rb") as disk:
            size = int(disk.read(_SECTOR).split()[1])
            return disk.read(size)
    raise LookupError("no disk is called " + _SEED_SERIAL)


def _archived(data: bytes) -> Iterator[tuple[str, int, str, bytes]]:
    """Name, mode, target of a link, and content; see tar(5)."""
    offset, long_name = 0, b""
    while data[offset : offset + 1].strip(b"\0"):
        header = data[offset : offset + _SECTOR]
        size = int(header[124:136].strip(b"\0 ") or b"0", 8)
        content = data[offset + _SECTOR : offset + _SECTOR + size]
        offset += _SECTOR + (size + _SECTOR - 1) // _SECTOR * _SECTOR
        kind = header[156:157]
        if kind == b"L":
            long_name = content.rstrip(b"\0")
            continue
        name = long_name or header[:100].rstrip(b"\0")
        long_name = b""
        target = header[157:257].rstrip(b"\0") if kind == b"2" else b""
        yield os.fsdecode(name), int(header[100:107], 8), os.fsdecode(target), content


def _unpack(data: bytes, folder: str) -> None:
    for name, mode, target, content in _archived(data):
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if target:
            if os.path.lexists(path):
                os.unlink(path)
            os.symlink(target, path)
        else:
            _write(path, content, mode)


def _write(path: str, data: bytes, mode: int) -> None:
    """Replace a file: what is there may be a link, or in use."""
    new = path + ".carthage"
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with open(fd, "wb") as file:
        os.fchmod(fd, mode)
        file.write(data)
    os.rename(new, path)


def _plug_anew(names: Mapping[str, str]) -> None:
    """Have the driver find the network cards again, and call them as the seed does.

    :param names: address of a card to its name.
    """
    if not os.path.isdir(_VIRTIO_NET):
        return
    cards = sorted(name for name in os.listdir(_VIRTIO_NET) if name.startswith("virtio"))
    for action in ("unbind", "bind"):
        for card in cards:
            with open(_VIRTIO_NET + "/" + action, "w") as file:
                file.write(card)
    there = {}
    for name in os.listdir("/sys/class/net"):
        with open("/sys/class/net/" + name + "/address") as file:
            there[file.read().strip()] = name
    for number, (mac, wanted) in enumerate(sorted(names.items())):
        if there.get(mac, wanted) == wanted:
            continue
        for other, name in list(there.items()):
            if name == wanted:
                there[other] = _renamed(name, f"seed{number}")
        there[mac] = _renamed(there[mac], wanted)


def _renamed(name: str, new: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        request = struct.pack("16s16s8x", name.encode(), new.encode())
        fcntl.ioctl(asking, _SIOCSIFNAME, request)
    return new


def _called(name: str) -> list[int]:
    """Processes of this name, of which the kernel keeps 15 characters."""
    pids = []
    for pid in os.listdir("/proc"):
        try:
            with open("/proc/" + pid + "/comm") as file:
                if pid.isdigit() and file.read().strip() == name[:15]:
                    pids.append(int(pid))
        except OSError:
            continue
    return pids
