"""What a machine has to itself, though its memory was another one's or is of an earlier time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import stat
import struct
import time
from functools import partial
from typing import TYPE_CHECKING

from pytest_carthage.channels.far.inside.bus import Bus
from pytest_carthage.channels.far.inside.links import configure_link

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from pytest_carthage.channels.far.inside.loop import Loop

# see random(4)
_RNDADDENTROPY = 0x40085203
_RNDRESEEDCRNG = 0x5207
_BOOT_ID_FILE = "/proc/sys/kernel/random/boot_id"
#: what its initrd leaves there, see the script that applies a seed
_RUN = "/run/carthage"
_BUSYBOX = _RUN + "/busybox"
_BOOT_ID = _RUN + "/boot_id"
_NETWORK = "/usr/lib/pytest-carthage/network"
_SETTINGS = "/etc/sysctl.d/50-carthage.conf"
_SEED_MARK = "/var/lib/pytest-carthage/seed"
_SEED_SERIAL = "carthage-seed"
_SECTOR = 512
_VIRTIO_NET = "/sys/bus/virtio/drivers/virtio_net"
_VIRTIO_PCI = "/sys/bus/pci/drivers/virtio-pci"
_SIOCSIFNAME = 0x8923
_NETWORKD = "org.freedesktop.network1"
#: what networkd tells of a link, by its number; and what is to be told of one that is configured
_LINKS = "/run/systemd/netif/links/"
_CONFIGURED = "ADMIN_STATE=configured\n"
#: where sshd is of two programs (since 9.8), the one that listens has the keys; before, each that
#: serves somebody reads them
_SSHD_SESSION = "/usr/lib/openssh/sshd-session"
#: state of a socket that listens, in /proc/net/tcp
_LISTENS = "0A"
_AGAIN_S = 0.01
_LOGINS_S = 2


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


class Identity:
    """Who a machine is that goes on where another one, its model, was put to sleep.

    :param loop: what answers of others are waited for by.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        #: network cards that have no driver, by their places on the bus
        self._cards: list[str] = []
        #: to networkd; None: it does not run, or is not asked
        self._bus: Bus | None = None
        #: processes that systemd starts again when they end: the journal, whose files are under the
        #: machine's id; and those that wait at consoles, where they have printed its name
        self._journal: list[int] = []
        self._logins: list[int] = []

    def sleep(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Do what each of a model's clones would have to do first."""
        failed: list[str] = []
        with open(_BOOT_ID_FILE, "rb") as file:
            _write(_BOOT_ID, file.read(), 0o444)
        # what is written to the file is what the kernel seems to say
        _spawned([_BUSYBOX, "mount", "-o", "bind", _BOOT_ID, _BOOT_ID_FILE], failed)
        if os.path.isdir(_VIRTIO_NET):
            devices = [name for name in os.listdir(_VIRTIO_NET) if name.startswith("virtio")]
            places = [os.path.realpath(_VIRTIO_NET + "/" + name) for name in devices]
            self._cards = sorted(os.path.basename(os.path.dirname(place)) for place in places)
        for card in self._cards:
            with open(_VIRTIO_PCI + "/unbind", "w") as file:
                file.write(card)
        if _running(["systemd-network"]):
            try:
                self._bus = Bus()
            except OSError as error:
                failed.append(f"networkd cannot be told anything: {error}")
        self._journal = _running(["systemd-journal"])
        self._logins = _running(["agetty"])
        return {"failed": failed}

    def become(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Be the machine that the seed tells of, which is on a disk of its own.

        Its files are taken as at a boot. Its cards are found anew, so that they have the addresses
        of the hardware that is there now. What is told of the boot, and what is written of it, is
        new; and whoever runs already and knows the other one's name or keys is told.

        :param message: ``boot_id``; ``gone``: files that were for the other one only; ``links``:
            what is configured at once, see :func:`configure_link`; ``later``: names of what
            networkd has to configure; ``forgets``: whether networkd must have known of no other
            machine; ``wait``: seconds until that is done, and its sshd has its keys, at most.
        """
        failed = renew(message)["failed"]
        with open(_BOOT_ID, "w") as file:
            file.write(message["boot_id"] + "\n")
        members = {name: data for name, _, _, data in _archived(_seed())}
        for path in message["gone"]:
            if os.path.lexists(path):
                os.unlink(path)
        groups = _groups()
        for group in groups:
            if group != "run":  # which is of what it is made of, and not of who it is
                _unpack(members.get(group + ".tar", b""), "/")
        with open("/etc/hostname") as file:
            socket.sethostname(file.read().strip())
        listening: dict[str, set[str]] = {}
        if "ssh" in groups:
            if not members["ssh.tar"].strip(b"\0"):
                _make_host_keys(failed)
            if os.path.exists(_SSHD_SESSION):
                listening = _with_new_keys()
        os.makedirs(os.path.dirname(_SEED_MARK), exist_ok=True)
        # the script has it where it looks whether it was here before
        mark = members["apply"].split(b" != ", 1)[1].split(b" ", 1)[0]
        _write(_SEED_MARK, mark + b"\n", 0o644)
        for card in self._cards:  # which resets it: it has the model's address until then
            with open(_VIRTIO_PCI + "/bind", "w") as file:
                file.write(card)
        _name_cards(dict(line.split() for line in members["cards"].decode().splitlines()))
        for path, value in _settings(_SETTINGS):
            try:
                with open(path, "w") as file:
                    file.write(value)
            except OSError as error:
                failed.append(f"{path} could not be set: {error}")
        later = []
        if "script" in groups:
            _spawned(["/bin/sh", _NETWORK], failed)
        elif self._bus is not None:
            for link in message["links"]:
                failed += configure_link(link)
            self._tell_networkd(message["forgets"], failed)
            later = message["later"]
        deadline = time.monotonic() + message["wait"]
        while time.monotonic() < deadline and not (
            _are_configured(later) and _listen_anew(listening)
        ):
            time.sleep(_AGAIN_S)
        self._loop.later(0, partial(_end, self._journal))
        # which takes as much of the processor as the first commands may want
        self._loop.later(_LOGINS_S, partial(_end, self._logins))
        return {"failed": failed}

    def _tell_networkd(self, forgets: bool, failed: list[str]) -> None:
        """Have networkd read what it is to do."""
        assert self._bus is not None
        if forgets:
            _spawned(["/bin/systemctl", "restart", "systemd-networkd.service"], failed)
            return
        try:
            method = _NETWORKD + ".Manager.Reload"
            self._bus.tell(self._loop, _NETWORKD, "/org/freedesktop/network1", method)
        except OSError as error:
            failed.append(f"networkd could not be told of its links: {error}")


def _end(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def _are_configured(links: list[str]) -> bool:
    """Whether networkd has configured these."""
    for name in links:
        try:
            with open("/sys/class/net/" + name + "/ifindex") as file:
                number = file.read().strip()
            with open(_LINKS + number) as file:
                if _CONFIGURED not in file.read():
                    return False
        except OSError:
            return False
    return True


def _with_new_keys() -> dict[str, set[str]]:
    """Have an sshd that runs read its keys; returns where it has listened, by which sockets."""
    for pid in _running(["sshd"]):
        with open(f"/proc/{pid}/stat") as file:
            if file.read().rpartition(")")[2].split()[1] != "1":
                continue  # it serves somebody
        listening = _listeners()
        folder = f"/proc/{pid}/fd/"
        own = {os.readlink(folder + fd)[len("socket:[") : -1] for fd in os.listdir(folder)}
        os.kill(pid, signal.SIGHUP)
        return {at: sockets for at, sockets in listening.items() if sockets & own}
    return {}


def _listen_anew(listening: Mapping[str, set[str]]) -> bool:
    """Whether somebody listens where these have, and not these."""
    now = _listeners() if listening else {}
    return all(now.get(at, set()) - sockets for at, sockets in listening.items())


def _listeners() -> dict[str, set[str]]:
    """Where somebody listens for TCP, with the numbers of the sockets."""
    there: dict[str, set[str]] = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as file:
                lines = file.read().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == _LISTENS:
                there.setdefault(fields[1], set()).add(fields[9])
    return there


def _make_host_keys(failed: list[str]) -> None:
    """New keys of an sshd: they were not made where there is more than this processor."""
    for name in os.listdir("/etc/ssh"):
        if name.startswith("ssh_host_") and name.endswith(("_key", "_key.pub")):
            os.unlink("/etc/ssh/" + name)
    if os.path.exists("/usr/bin/ssh-keygen"):
        _spawned(["/usr/bin/ssh-keygen", "-q", "-A"], failed)


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
        if _is_there(path, mode, target, content):
            continue
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if target:
            if os.path.lexists(path):
                os.unlink(path)
            os.symlink(target, path)
        else:
            _write(path, content, mode)


def _is_there(path: str, mode: int, target: str, content: bytes) -> bool:
    """Whether a file is what it should be."""
    try:
        found = os.lstat(path)
        if target:
            return stat.S_ISLNK(found.st_mode) and os.readlink(path) == target
        if found.st_mode != stat.S_IFREG | mode or found.st_size != len(content):
            return False
        with open(path, "rb") as file:
            return file.read() == content
    except OSError:
        return False


def _write(path: str, data: bytes, mode: int) -> None:
    """Replace a file: what is there may be a link, or in use."""
    new = path + ".carthage"
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with open(fd, "wb") as file:
        os.fchmod(fd, mode)
        file.write(data)
    os.rename(new, path)


def _name_cards(names: Mapping[str, str]) -> None:
    """Call network cards as the seed does.

    :param names: address of a card to its name.
    """
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


def _running(names: list[str]) -> list[int]:
    """Processes of these names, of which the kernel keeps 15 characters."""
    running = []
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            try:
                with open("/proc/" + pid + "/comm") as file:
                    if file.read().strip() in names:
                        running.append(int(pid))
            except OSError:
                continue
    return running
