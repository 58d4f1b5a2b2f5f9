"""Virtual machines: their first boot, clones, snapshots, commands, files, disks and memory.

Against: the same disk, started as a person would start it (see :mod:`benchmarks.vm_others`), and
reached by ssh. Each figure is told as it is taken, and an alternative that fails says why.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.harness import Figure, main, seconds
from benchmarks.layouts import live
from benchmarks.vm_others import (
    NotTaken,
    Other,
    StockKernel,
    installed,
    munet_node,
    plain,
    qemu_of,
)
from pytest_carthage import Image, Layout, Machine, Network, Vm
from pytest_carthage.errors import CarthageError
from pytest_carthage.images.builder import ensure
from pytest_carthage.images.exports.disks.ensuring import ensure_disk
from pytest_carthage.portal import Portal
from pytest_carthage.providers.libvirt import host
from pytest_carthage.store import disk
from pytest_carthage.store.built import Built

_DEBIAN = Image.debian(
    "bookworm",
    packages=["systemd-sysv", "dbus", "udev", "iproute2", "python3", "openssh-server"],
).with_(name="benchmark-vm")
#: of which an alternative has the kernel, and the initrd that Debian's initramfs-tools made
_STOCK = Image.debian("bookworm", packages=["linux-image-cloud-amd64", "initramfs-tools"]).with_(
    name="benchmark-stock-kernel"
)
_MIB = 512
_READY_S = 300.0
#: what is put into a machine
_BYTES = 100_000_000
#: what takes longest is taken less often
_FEW = 2

T = TypeVar("T")


class Lab(Layout):
    """One network; machines are added to it."""

    lan = Network("10.0.0.0/24")
    first = Machine(
        _DEBIAN,
        on=Vm(memory_mib=_MIB),
        init="systemd",
        links={"eth0": lan.at("auto")},
        ready_timeout_s=_READY_S,
    )


def _another(recipe: str = "", **more: Any) -> Machine:
    """One like the first one; or the first of a recipe of its own."""
    return Machine(
        _DEBIAN,
        on=Vm(memory_mib=_MIB, **more),
        init="systemd",
        links={"eth0": Lab.lan.at("auto")},
        env={"RECIPE": recipe} if recipe else {},
        ready_timeout_s=_READY_S,
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


def _commands(machine: Any, rounds: int) -> list[float]:
    """Milliseconds of a command: medians of five."""
    machine.run("true")
    runs = [seconds(lambda: machine.run("true")) * 1e3 for _ in range(rounds * 5)]
    return [statistics.median(runs[n::rounds]) for n in range(rounds)]


def _resident_mib(name: str) -> float:
    """What the QEMU of a machine of this process's has in memory."""
    status = Path(f"/proc/{qemu_of(f'guest={name},')}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def _tell(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def _told(what: str, unit: str, take: Callable[[], Sequence[float]]) -> tuple[float, ...]:
    """What is taken, which is printed at once: what follows may fail."""
    values = tuple(take())
    _tell(f"{what}: {', '.join(f'{value:.3g}' for value in values)} {unit}")
    return values


def _figure(what: str, unit: str, ours: Sequence[float], **more: Any) -> Figure:
    way = "KVM" if host.acceleration().kind == "kvm" else "emulated"
    return Figure(what=f"{what} ({way})", unit=unit, ours=tuple(ours), **more)


def _disks() -> Iterator[Figure]:
    """The disk of an image whose root is there, and the same, found again."""
    first, again = [], []
    with contextlib.closing(Portal()) as portal:
        built = _built(_DEBIAN, portal)
        for number in range(_FEW):
            size_mib = 3000 + number * 4
            make = lambda: portal.call(ensure_disk, built, size_mib=size_mib)  # noqa: B023, E731
            first.append(seconds(make))
            again.append(seconds(make))
            made = portal.call(ensure_disk, built, size_mib=size_mib)
            disk.delete(made.folder)
    yield _figure("a disk of an image that is built", "s", first, at_most=5)
    yield _figure("the same again", "s", again, at_most=0.1)


def _built(image: Image, portal: Portal) -> Built:
    return portal.call(lambda: ensure(image, portal=portal, note=lambda who, text: None))


# the alternatives


@dataclass
class _Others:
    """What they took: each is empty where it could not be taken."""

    boots: tuple[float, ...] = ()
    commands: tuple[float, ...] = ()
    copies: tuple[float, ...] = ()
    installed: tuple[float, ...] = ()
    munet: tuple[float, ...] = ()
    #: why, by what was tried
    reasons: dict[str, str] = field(default_factory=dict)

    def against(self, values: tuple[float, ...], what: str, tried: str) -> dict[str, Any]:
        """An alternative, as a figure takes it."""
        if not values:
            what += f": not taken, {self.reasons.get(tried, 'since another one was not')}"
        return {"other": values, "versus": what}


_PLAIN, _INSTALLED, _MUNET = "plain QEMU", "virt-install", "munet"


def _others(lab: Layout, other: Other, data: Path, rounds: int) -> _Others:
    taken = _Others()

    def plain_qemu() -> None:
        boots: list[float] = []
        for number in range(_FEW):
            with plain(other, keep_disk=number == _FEW - 1) as took:
                boots += _told("plain QEMU, to its first command by ssh", "s", lambda: (took,))
                if number == _FEW - 1:
                    taken.commands = _told("ssh", "ms", lambda: other.commands(rounds))
                    taken.copies = _told("copy by ssh", "s", lambda: (other.copy(data),))
        taken.boots = tuple(boots)

    def virt_install() -> None:
        stock = StockKernel(_built(_STOCK, lab.aio.portal))
        uri = f"qemu+unix:///system?socket={lab.aio.folder / 'libvirt/run/libvirt-sock'}"
        with installed(other, stock, uri) as took:
            taken.installed = _told("virt-install, stock initrd, ssh", "s", lambda: (took,))

    def munet() -> None:
        with munet_node(other) as took:
            taken.munet = _told("a QEMU node of munet, ssh", "s", lambda: (took,))

    for tried, take_it in ((_PLAIN, plain_qemu), (_INSTALLED, virt_install), (_MUNET, munet)):
        try:
            if tried != _PLAIN and not taken.boots:  # it is what writes the seed to the disk
                raise NotTaken(f"{_PLAIN} was not taken")
            take_it()
        except (NotTaken, CarthageError, OSError, subprocess.SubprocessError) as error:
            taken.reasons[tried] = str(error).splitlines()[0]
            _tell(f"{tried}: not taken: {error}")
    return taken


def take(rounds: int) -> Iterator[Figure]:
    """Take the figures."""
    yield from _disks()
    with live(Lab) as lab, tempfile.TemporaryDirectory() as scratch:
        machine: Any = lab["first"]
        built = _built(_DEBIAN, lab.aio.portal)
        before = {kept.path for kept in built.store.disks}
        try:
            yield from _of_machines(lab, machine, built, Path(scratch), rounds)
        finally:
            for kept in {kept.path for kept in built.store.disks} - before:
                disk.delete(kept)


def _of_machines(
    lab: Layout, machine: Any, built: Built, scratch: Path, rounds: int
) -> Iterator[Figure]:
    many: Callable[[int], list[Machine]] = lambda count: [_another() for _ in range(count)]  # noqa: E731
    ones = [_ready(lab, *many(1)) for _ in range(rounds)]
    yield _figure("a machine of a recipe that has booted once, a clone", "s", ones, at_most=1.5)
    fours = [_ready(lab, *many(4)) for _ in range(_FEW)]
    yield _figure("four clones at once", "s", fours, at_most=6)
    resident = _resident_mib("first")
    machine.snapshot("here")
    reverts = [_reverted(machine) for _ in range(rounds)]
    yield _figure("back to a snapshot, to its first command", "s", reverts, at_most=1.2)
    yield _figure(f"resident memory of one of {_MIB} MiB", "MiB", [resident], at_most=420)
    # QEMU has read all of it by then; what it has not written is the store's file, in its cache
    yield _figure("the same, after its snapshot", "MiB", [_resident_mib("first")])
    runs = _told('run("true")', "ms", lambda: _commands(machine, rounds))
    data = scratch / "data"
    data.write_bytes(secrets.token_bytes(_BYTES))

    def put() -> float:
        return seconds(lambda: machine.put(data, "/root/data"))

    puts = _told("put of 100 MB", "s", lambda: [put() for _ in range(_FEW)])
    first = "the first virtual machine of a recipe, to its first command"
    boots = _told(
        first, "s", lambda: [_ready(lab, _another(secrets.token_hex(4))) for _ in range(_FEW)]
    )
    base = lab.aio.portal.call(ensure_disk, built)
    other = Other(scratch, built, base, machine.planned, lab.plan)
    others = _others(lab, other, data, rounds)
    plainly = others.against(
        others.boots, "the same disk in plain QEMU, to its first command by ssh", _PLAIN
    )
    stock = "the same disk by virt-install with a stock initrd, likewise"
    against_stock = others.against(others.installed, stock, _INSTALLED)
    node = "the same disk as a QEMU node of munet, likewise"
    shared = "ssh over a connection that is shared"
    against_ssh = others.against(others.commands, shared, _PLAIN)
    copied = others.against(others.copies, "ssh", _PLAIN)
    yield _figure(first, "s", boots, at_most=10, **plainly)
    yield _figure(first, "s", boots, **against_stock)
    yield _figure(first, "s", boots, **others.against(others.munet, node, _MUNET))
    yield _figure('run("true") in it, by the agent', "ms", runs, at_most=40, **against_ssh)
    yield _figure("put of 100 MB into it", "s", puts, at_most=4, **copied)
    try:
        by_ssh: Any = lab.add(_another(way="ssh"), name="by-ssh")
        runs = tuple(_commands(by_ssh, rounds))
        yield _figure('run("true") in it, by ssh', "ms", runs, at_most=150, **against_ssh)
    except CarthageError as error:
        _tell(f'run("true") by way="ssh": not taken: {error}')


if __name__ == "__main__":
    main(take)
