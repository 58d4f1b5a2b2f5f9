"""Virtual machines: their first boot, clones, snapshots, commands, files, disks and memory.

Against: the same disk, started by plain QEMU, as a person would start it, and reached by ssh.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import Figure, main, seconds
from benchmarks.layouts import live
from pytest_carthage import Image, Layout, Machine, Network, Vm
from pytest_carthage.channels.far.program import agent_program
from pytest_carthage.images.builder import ensure
from pytest_carthage.images.exports.disks.ensuring import ensure_disk
from pytest_carthage.images.exports.disks.values import BootDisk
from pytest_carthage.images.seeds.seed import make_seed
from pytest_carthage.images.seeds.values import text
from pytest_carthage.portal import Portal
from pytest_carthage.providers.libvirt import host
from pytest_carthage.store import disk
from pytest_carthage.store.built import Built

_DEBIAN = Image.debian(
    "bookworm",
    packages=["systemd-sysv", "dbus", "udev", "iproute2", "python3", "openssh-server"],
).with_(name="benchmark-vm")
_MIB = 512
_LIMIT_S = 300.0
#: what is put into a machine
_BYTES = 100_000_000
#: first boots are not counted as often as the rest: each takes as long as all of that
_BOOTS = 2
_SSH = (
    *("ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"),
    *("-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=5"),
)


class Lab(Layout):
    """One network; machines are added to it."""

    lan = Network("10.0.0.0/24")
    first = Machine(
        _DEBIAN,
        on=Vm(memory_mib=_MIB),
        init="systemd",
        links={"eth0": lan.at("auto")},
        ready_timeout_s=_LIMIT_S,
    )


def _another(recipe: str = "") -> Machine:
    """One like the first one; or the first of a recipe of its own."""
    return Machine(
        _DEBIAN,
        on=Vm(memory_mib=_MIB),
        init="systemd",
        links={"eth0": Lab.lan.at("auto")},
        env={"RECIPE": recipe} if recipe else {},
        ready_timeout_s=_LIMIT_S,
    )


def _ready(lab: Layout, *machines: Machine) -> float:
    """How long it takes until each of some machines has run a command."""
    names = [f"m{secrets.token_hex(4)}" for _ in machines]

    async def one(machine: Machine, name: str) -> None:
        added = await lab.aio.add(machine, name=name)
        await added.run("true")

    async def all_of_them() -> None:
        await asyncio.gather(*map(one, machines, names))

    taken = seconds(lambda: lab.aio.portal.call(all_of_them))
    for name in names:
        lab.remove(name)
    return taken


def _reverted(machine: Any) -> float:
    def back() -> None:
        machine.revert("here")
        machine.run("true")

    return seconds(back)


def _resident_mib(name: str) -> float:
    """What the QEMU of a machine of this process's has in memory."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if any(word.startswith(f"guest={name},".encode()) for word in words):
                status = (folder / "status").read_text()
                return int(status.partition("VmRSS:")[2].split()[0]) / 1024
    raise LookupError(f"no QEMU of {name!r}")


# the alternative


class Plain:
    """The same disk in a QEMU that a person has started, with a port of the host for its sshd."""

    def __init__(self, folder: Path, built: Built, base: BootDisk, planned: Any, plan: Any) -> None:
        self._folder, self._base = folder, base
        self._key = folder / "key"
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self._key)]
        subprocess.run(keygen, check=True)
        files = {
            "root/.ssh/authorized_keys": text(self._key.with_suffix(".pub").read_text(), 0o600),
            "etc/systemd/network/01-all.network": text(
                "[Match]\nDriver=virtio_net\n\n[Network]\nDHCP=ipv4\n"
            ),
        }
        seed = make_seed(planned, plan, built, agent=agent_program(), files=files)
        (folder / "seed.img").write_bytes(seed)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    @contextlib.contextmanager
    def booted(self) -> Iterator[float]:
        """A block in which it runs; yields the seconds until its sshd has run a command."""
        overlay = self._folder / "disk.qcow2"
        overlay.unlink(missing_ok=True)
        above = ["-b", str(self._base.path), "-F", self._base.format]
        create = ["qemu-img", "create", "-q", "-f", "qcow2", *above, str(overlay)]
        subprocess.run(create, check=True)
        begin = time.perf_counter()
        accelerated = "kvm" if host.acceleration().kind == "kvm" else "tcg"
        process = subprocess.Popen(
            [
                *(host.emulator() or "qemu-system-x86_64", "-machine", f"pc,accel={accelerated}"),
                *("-m", str(_MIB), "-display", "none", "-monitor", "none", "-serial", "none"),
                *("-kernel", str(self._base.kernel), "-initrd", str(self._base.initrd)),
                *("-append", self._base.append),
                *("-drive", f"file={overlay},if=virtio,cache=unsafe"),
                *("-drive", f"file={self._folder}/seed.img,if=none,id=s,format=raw"),
                *("-device", "virtio-blk-pci,drive=s,serial=carthage-seed"),
                *("-nic", f"user,model=virtio,hostfwd=tcp:127.0.0.1:{self.port}-:22"),
            ],
            stdin=subprocess.DEVNULL,
        )
        try:
            while self.ssh("true"):
                if time.perf_counter() - begin > _LIMIT_S:
                    raise TimeoutError("plain QEMU: no ssh")
            yield time.perf_counter() - begin
        finally:
            process.kill()
            process.wait()

    def ssh(self, command: str, *options: str, data: Path | None = None) -> int:
        """Run a command; returns its status."""
        words = ["-i", str(self._key), "-p", str(self.port), *options, "root@127.0.0.1", command]
        with contextlib.ExitStack() as stack:
            stdin: Any = subprocess.DEVNULL
            if data is not None:
                stdin = stack.enter_context(data.open("rb"))
            return subprocess.run([*_SSH, *words], stdin=stdin, check=False).returncode

    def master(self) -> tuple[str, ...]:
        """Options of a connection that is shared, and open."""
        options = ("-o", "ControlMaster=auto", "-o", f"ControlPath={self._folder}/master")
        self.ssh("true", *options, "-o", "ControlPersist=600")
        return options


def _by_ssh(plain: Plain, data: Path, rounds: int) -> tuple[list[float], list[float], list[float]]:
    """Seconds until it is there; milliseconds of a command; and seconds to put a file."""
    boots = []
    for _ in range(_BOOTS - 1):
        with plain.booted() as taken:
            boots.append(taken)
    with plain.booted() as taken:
        boots.append(taken)
        shared = plain.master()
        commands = [seconds(lambda: plain.ssh("true", *shared)) * 1e3 for _ in range(rounds)]
        copies = [seconds(lambda: plain.ssh("cat > /root/data", *shared, data=data))]
    return boots, commands, copies


# disks


def _disks(rounds: int) -> tuple[list[float], list[float]]:
    """Seconds to make the disk of an image whose root is there, and to find it again."""
    first, again = [], []
    with contextlib.closing(Portal()) as portal:
        built = portal.call(lambda: ensure(_DEBIAN, portal=portal, note=lambda who, text: None))
        for number in range(rounds):
            size_mib = 3000 + number * 4
            make = lambda: portal.call(ensure_disk, built, size_mib=size_mib)  # noqa: B023, E731
            first.append(seconds(make))
            again.append(seconds(make))
            made = portal.call(ensure_disk, built, size_mib=size_mib)
            disk.delete(made.folder)
    return first, again


def take(rounds: int) -> Sequence[Figure]:
    """Take the figures."""
    way = "KVM" if host.acceleration().kind == "kvm" else "emulated"

    def figure(what: str, unit: str, ours: Sequence[float], **more: Any) -> Figure:
        return Figure(what=f"{what} ({way})", unit=unit, ours=tuple(ours), **more)

    def tell(step: str) -> None:
        print(f"  {step}", file=sys.stderr, flush=True)

    figures = []
    tell("disks")
    made, found = _disks(2)
    figures += [
        figure("a disk of an image that is built", "s", made, at_most=5),
        figure("the same again", "s", found, at_most=0.1),
    ]
    with live(Lab) as lab, tempfile.TemporaryDirectory() as scratch:
        machine: Any = lab["first"]
        many: Callable[[int], list[Machine]] = lambda count: [_another() for _ in range(count)]  # noqa: E731
        built = lab.aio.portal.call(
            lambda: ensure(_DEBIAN, portal=lab.aio.portal, note=lambda who, text: None)
        )
        before = {kept.path for kept in built.store.disks}
        tell("first boots")
        boots = [_ready(lab, _another(secrets.token_hex(4))) for _ in range(_BOOTS)]
        tell("clones")
        ones = [_ready(lab, *many(1)) for _ in range(rounds)]
        fours = [_ready(lab, *many(4)) for _ in range(_BOOTS)]
        tell("snapshots")
        machine.snapshot("here")
        reverts = [_reverted(machine) for _ in range(rounds)]
        tell("commands and files")
        machine.run("true")
        runs = [seconds(lambda: machine.run("true")) * 1e3 for _ in range(rounds * 5)]
        data = Path(scratch, "data")
        data.write_bytes(secrets.token_bytes(_BYTES))
        puts = [seconds(lambda: machine.put(data, "/root/data")) for _ in range(_BOOTS)]
        resident = [_resident_mib("first")]
        base = lab.aio.portal.call(ensure_disk, built)
        tell("plain QEMU and ssh")
        plain = Plain(Path(scratch), built, base, machine.planned, lab.plan)
        boot_times, commands, copies = _by_ssh(plain, data, rounds)
        for kept in {kept.path for kept in built.store.disks} - before:
            disk.delete(kept)
    return [
        figure(
            "the first virtual machine of a recipe, to its first command",
            *("s", boots),
            other=tuple(boot_times),
            versus="the same disk in plain QEMU, to its first command by ssh",
            at_most=10,
        ),
        figure("the next one, a clone", "s", ones, at_most=1.5),
        figure("four clones at once", "s", fours, at_most=6),
        figure("back to a snapshot, to its first command", "s", reverts, at_most=1.2),
        figure(
            'run("true") in it',
            *("ms", [statistics.median(runs[n::5]) for n in range(5)]),
            other=tuple(commands),
            versus="ssh over a connection that is shared",
            at_most=40,
        ),
        figure("put of 100 MB into it", "s", puts, other=tuple(copies), versus="ssh", at_most=4),
        *figures,
        figure(f"resident memory of one of {_MIB} MiB", "MiB", resident, at_most=420),
    ]


if __name__ == "__main__":
    main(take)
