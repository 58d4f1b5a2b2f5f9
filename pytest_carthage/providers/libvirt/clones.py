"""Machines that are not booted: their memory is that of the first boot of what they are made of.

A machine of the recipe, the *model*, boots once, with a network that leads nowhere, and without the
services that might know who it is: those of systemd, sshd, cron and the like can be told that they
are another's. What it then has in memory and on disk is kept in the store. A clone begins there, is
told who it is, and starts what the model has left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import platform
import re
import secrets
import shlex
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from pytest_carthage import clock
from pytest_carthage.channels.agent import Interrupted, execute
from pytest_carthage.channels.far.program import agent_program
from pytest_carthage.channels.far.window import add_window
from pytest_carthage.channels.log import Log
from pytest_carthage.errors import FabricError
from pytest_carthage.fabric.wire.channel import AsyncChannel
from pytest_carthage.images.exports.boot.merged import locate
from pytest_carthage.images.exports.disks.values import BootDisk
from pytest_carthage.images.seeds.commands import settings_of
from pytest_carthage.images.seeds.seed import make_seed
from pytest_carthage.images.seeds.values import FileInSeed, text
from pytest_carthage.images.seeds.wiring import wiring_of
from pytest_carthage.providers.libvirt import disks
from pytest_carthage.providers.libvirt.binding import Refused
from pytest_carthage.providers.libvirt.memory import Saved, restore, take_out
from pytest_carthage.store import disk
from pytest_carthage.store.disks import DiskMeta

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from pytest_carthage.handles.channel import Channel
    from pytest_carthage.images.seeds.wiring import Wiring
    from pytest_carthage.model.vm import Vm
    from pytest_carthage.planning.plan import Plan, PlannedMachine
    from pytest_carthage.providers.libvirt.domain import Places
    from pytest_carthage.providers.libvirt.service import Service
    from pytest_carthage.store.built import Built
    from pytest_carthage.store.disks import KeptDisk

    #: opens a channel to a machine
    Reach = Callable[[], Awaitable[Channel]]

__all__ = ["GONE", "Memory", "Recipe", "become", "ensure_memory", "renew", "restore", "why_not"]

#: part of every key: raised when a model is made differently
_FORMAT = 2
_TARGET = "carthage-model.target"
_TARGET_FILE = f"run/systemd/system/{_TARGET}"
_LINK_FILE = "run/systemd/network/00-carthage-model.link"
_WAIT = "systemd-networkd-wait-online.service"
_WAIT_FILE = f"etc/systemd/system/{_WAIT}"
#: files of the model that a clone does not have
GONE = (f"/{_TARGET_FILE}", f"/{_LINK_FILE}", f"/{_WAIT_FILE}", "/var/lib/systemd/random-seed")
#: what starts before a machine knows who it is: it is told later, or nobody asks for its name
_EARLY = (
    "cron.service",
    "crond.service",
    "dbus.service",
    "getty.target",
    "remote-fs.target",
    "ssh.service",
    "sshd.service",
    "systemd-logind.service",
    "systemd-user-sessions.service",
)
#: the same where there is a message bus, by which it can be told
_BY_BUS = ("systemd-networkd.service",)
_BUS = ("usr/lib/systemd/system/dbus.socket", "lib/systemd/system/dbus.socket")
_MODEL_TARGET = """[Unit]
Description=What a machine has before it knows which one it is
Requires=basic.target
Wants=@EARLY@
After=basic.target @EARLY@
AllowIsolate=yes
"""
#: a card keeps the name that it is given, whatever udev would call it
_MODEL_LINK = "[Match]\nOriginalName=*\n\n[Link]\nNamePolicy=\n"
_SYSTEMD = ("usr/lib/systemd/systemd", "lib/systemd/systemd")
_BOOTED = ("systemctl", "is-system-running", "--wait")
#: of the folder with what was kept: units that a clone has to start, a line each
_LEFT = "left"
_FILES = ("disk", "memory", "ram", _LEFT)
_DEPENDENCIES = ("systemctl", "list-dependencies", "--plain", "--no-pager")
_COMMAND_S = 60.0
#: between two who ask an agent that is not there yet
_AGAIN_S = 0.02
#: a model has nothing more to do when its processors are idle for that long
_IDLE_S = 0.5
_IDLE = 0.9
_LOOKS = 40
#: what links may take to be configured where that was told to a networkd that runs
_LINKS_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a clone begins with."""

    saved: Saved
    #: pages of the main memory
    ram: Path
    #: disk that belongs to it
    disk: BootDisk
    #: units that were not started yet
    left: tuple[str, ...]
    #: folders of the store that must stay as long as the clone
    held: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a machine is made of: machines of the same have the same memory when they have booted.

    :param domain: gives the XML of the machine, with the files of a place, and with words that
        are added to the kernel's command line.
    """

    built: Built
    base: BootDisk
    planned: PlannedMachine
    plan: Plan
    vm: Vm
    domain: Callable[[Places, str], str]
    #: whether our agent is in it
    has_agent: bool = True

    @property
    def key(self) -> str:
        """Content key, of all that the memory depends on but for the host's QEMU."""
        parts = {
            "format": _FORMAT,
            "disk": self.base.key,
            "hardware": _hardware(self.domain(_nowhere(), "")),
            "agent": agent_program(),
            "model": [_MODEL_TARGET, _MODEL_LINK, _EARLY, _BY_BUS],
            "command": [self.planned.command, sorted(self.planned.env.items())],
            "processor": _processor(),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def why_not(recipe: Recipe) -> str:
    """Why a machine boots by itself; empty: it can be a clone."""
    vm, base = recipe.vm, recipe.base
    if not recipe.has_agent:
        return "it has no agent that would tell it who it is"
    if not (base.has_init and any(locate(recipe.built.lower, path) for path in _SYSTEMD)):
        return "it has no systemd, which would start the rest"
    if base.kernel is None or base.seed != "carthage":
        return "its disk brings the kernel"
    if vm.firmware != "bios":
        return f"its firmware is {vm.firmware}"
    if vm.tpm:
        return "its TPM would be another one's"
    if vm.xml is not None:
        return "it has XML of its own"
    return ""


async def ensure_memory(
    recipe: Recipe,
    service: Service,
    *,
    emulator: str,
    folder: Path,
    channel: Callable[[Path], Awaitable[Channel]],
    note: Callable[[str], None],
) -> Memory:
    """Find the memory of a recipe in the store, or boot a model for it; it is held.

    One process at a time makes it, and others that want it wait.

    :param folder: where the model can have its files.
    :param channel: opens one to the agent behind a socket.
    :raises CarthageError: the model does not boot, or its memory cannot be kept.
    :raises OSError: likewise.
    """
    store = recipe.built.store
    versions = await service.call(lambda libvirt, connection: _versions(connection))
    key = hashlib.sha256(f"{recipe.key} {versions} {emulator}".encode()).hexdigest()[:32]
    kept = await _held(recipe, key)
    if kept is None:
        async with store.claims.claimed(key, note) as claim:
            kept = await _held(recipe, key)
            if kept is None:
                claim.tell("boots the first machine of its recipe", recipe.built.image.name)
                note("is the first of its recipe: boots, and its memory is kept for others")
                kept = await _make(recipe, key, service, folder, channel, note)
                await store.holding.added(kept.path)
    store.disks.use(kept)
    saved = await asyncio.to_thread(Saved.read, kept.path / "memory")
    above = replace(recipe.base, key=key, folder=kept.path, path=kept.path / "disk", format="qcow2")
    return Memory(
        saved=saved,
        ram=kept.path / "ram",
        disk=above,
        left=tuple((kept.path / _LEFT).read_text().split()),
        held=(recipe.base.folder, kept.path),
    )


async def _held(recipe: Recipe, key: str) -> KeptDisk | None:
    store = recipe.built.store
    if await store.holding.added(store.disks.path(key)):
        return await asyncio.to_thread(store.disks.get, key)
    return None


async def _make(
    recipe: Recipe,
    key: str,
    service: Service,
    folder: Path,
    channel: Callable[[Path], Awaitable[Channel]],
    note: Callable[[str], None],
) -> KeptDisk:
    store = recipe.built.store
    began = clock.monotonic_s()
    work = store.work(key)
    await asyncio.to_thread(store.take_away, work)
    work.mkdir(mode=0o711, parents=True)
    try:
        await _boot_model(recipe, service, folder, channel, work, note)
        meta = DiskMeta(
            key=key,
            image=recipe.built.image.name,
            top=recipe.built.layers[-1].key,
            files={name: (work / name).stat().st_size for name in _FILES},
            append=recipe.base.append,
            kernel="",
            made_at=clock.unix_s(),
            seconds=clock.monotonic_s() - began,
        )
        return await asyncio.to_thread(store.disks.commit, work, meta)
    except BaseException:
        await asyncio.to_thread(store.take_away, work)
        raise


async def _boot_model(
    recipe: Recipe,
    service: Service,
    folder: Path,
    channel: Callable[[Path], Awaitable[Channel]],
    work: Path,
    note: Callable[[str], None],
) -> None:
    """Boot a model, and have its memory and its disk in the working folder."""
    from pytest_carthage.providers.libvirt.apart import MACHINES
    from pytest_carthage.providers.libvirt.domain import Places

    name = f"model-{secrets.token_hex(4)}"
    places = Places(
        folder=folder / name, short=f"{MACHINES}/{name}", log=folder / name / "console.log"
    )
    await asyncio.to_thread(_make_disks, recipe, places, work)
    add_window(places.seed)  # a clone has no more of it than its model had
    xml = _of_model(
        recipe.domain(places, f"systemd.unit={_TARGET}"), name, work / "disk", places.log
    )

    def start(libvirt: Any, connection: Any) -> None:
        connection.createXML(xml, libvirt.VIR_DOMAIN_START_VALIDATE)

    def save(libvirt: Any, connection: Any) -> None:
        connection.lookupByName(name).save(str(work / "memory"))

    def destroy(libvirt: Any, connection: Any) -> None:
        with contextlib.suppress(libvirt.libvirtError):
            connection.lookupByName(name).destroy()

    try:
        await service.call(start)
        reached = await _booted(channel, places.agent, recipe.planned.ready_timeout_s, places.log)
        left = await _left(reached)
        (work / _LEFT).write_text("\n".join(left))
        if not left:  # which starts nothing any more
            await _run(reached, "systemctl", "start", "default.target")
        await _settled(reached, note)
        await service.call(save)
        await asyncio.to_thread(take_out, work / "memory", work / "ram")
    finally:
        with contextlib.suppress(Refused):
            await asyncio.shield(service.call(destroy))
        await asyncio.to_thread(disk.delete, places.folder)


def _make_disks(recipe: Recipe, places: Places, work: Path) -> None:
    places.folder.mkdir(mode=0o700)
    disks.new_disk(work / "disk", above=recipe.base)
    nobody = replace(recipe.planned, name="model", hostname="localhost", links=(), loopback=())
    early = " ".join(_early(recipe.built))
    files = {
        _TARGET_FILE: text(_MODEL_TARGET.replace("@EARLY@", early)),
        _LINK_FILE: text(_MODEL_LINK),
    }
    if locate(recipe.built.lower, f"lib/systemd/system/{_WAIT}"):
        # it would be known as masked, since there are no links
        files[_WAIT_FILE] = FileInSeed(target=f"/lib/systemd/system/{_WAIT}")
    places.seed.write_bytes(_seed(nobody, recipe, files))
    for each in recipe.vm.disks:
        disks.new_disk(places.further(each.name), size_mib=each.size_mib)


def _seed(planned: PlannedMachine, recipe: Recipe, files: Mapping[str, Any]) -> bytes:
    return make_seed(planned, recipe.plan, recipe.built, agent=agent_program(), files=files)


async def _booted(
    reach: Callable[[Path], Awaitable[Channel]], agent: Path, limit_s: float, log: Path
) -> Channel:
    """Wait until a model has started what it should; returns the channel to it.

    :raises FabricError: it has not come so far in time, with the end of its console.
    """
    seen = "its agent did not answer"
    channel = await reach(agent)
    try:
        async with asyncio.timeout(limit_s):
            while True:
                try:
                    if getattr(channel, "closed", False):
                        channel = await reach(agent)
                    await channel.request("ping")
                    _, out, _ = await execute(
                        channel, _BOOTED, user=None, cwd=None, env={}, input=None, timeout_s=limit_s
                    )
                except (FabricError, Interrupted) as error:
                    seen = str(error)
                else:
                    seen = out.decode(errors="replace").strip()
                    if seen in ("running", "degraded"):
                        return channel
                await asyncio.sleep(0.1)
    except TimeoutError as error:
        lines = await asyncio.to_thread(Log(log).last_lines, 5)
        last = "".join(f"\n  {line}" for line in lines)
        text = f"its model did not boot in {limit_s:g} s (last: {seen}){last}"
        raise FabricError(text) from error


def _early(built: Built) -> Sequence[str]:
    """What a model starts."""
    has_bus = any(locate(built.lower, path) for path in _BUS)
    return (*_EARLY, *(_BY_BUS if has_bus else ()))


async def _run(channel: Channel, *argv: str) -> str:
    """What a command in a model prints."""
    _, out, _ = await execute(
        channel, argv, user=None, cwd=None, env={}, input=None, timeout_s=_COMMAND_S
    )
    return out.decode(errors="replace")


async def _left(channel: Channel) -> list[str]:
    """Units that a model should start, and has not."""
    wanted, early = [
        {
            name
            for name in (await _run(channel, *_DEPENDENCIES, target)).split()
            if not name.endswith(".target")
        }
        for target in ("default.target", _TARGET)
    ]
    later = sorted(wanted - early)
    if not later:
        return []
    told = await _run(channel, "systemctl", "show", "-p", "Id,LoadState,ActiveState", *later)
    units = [dict(line.partition("=")[::2] for line in unit.split()) for unit in told.split("\n\n")]
    return sorted(
        {
            unit["Id"]
            for unit in units
            if unit.get("LoadState") == "loaded" and unit["ActiveState"] == "inactive"
        }
    )


async def _settled(channel: Channel, note: Callable[[str], None]) -> None:
    """Return when a model has nothing to do, or goes on as if it never had."""
    # what a clone does first, it does faster if it has been done
    await _ask(channel, "renew", _COMMAND_S, note)
    await _run(channel, "true")
    await _ask(channel, "sleep", _COMMAND_S, note)
    total, idle = 0, 0
    for _ in range(_LOOKS):
        told = (await _run(channel, "head", "-n1", "/proc/stat")).split()[1:]
        times = [int(field) for field in told]
        before, (total, idle) = (total, idle), (sum(times), sum(times[3:5]))
        if before[0] and idle - before[1] >= _IDLE * (total - before[0]):
            break
        await asyncio.sleep(_IDLE_S)


async def become(
    reach: Reach,
    planned: PlannedMachine,
    left: Sequence[str],
    *,
    limit_s: float,
    waits: bool,
    note: Callable[[str], None],
) -> str:
    """Have a clone be itself, and start what there is to start; returns what its boot is called.

    :param reach: opens a channel to it, another one if that was closed.
    :param left: units that have not been started.
    :param waits: until that is started.
    :param note: is told what could not be done.
    :raises FabricError: it cannot be told who it is.
    """
    boot_id = str(uuid.uuid4())
    channel = await _reached(reach, limit_s)
    wiring = wiring_of(planned)
    # who asks for addresses of IPv6 has an identifier that comes from the machine's
    forgets = any(6 in wire.dhcp for wire in wiring.wires)
    await _ask(
        *(channel, "become", limit_s, note),
        boot_id=boot_id,
        gone=list(GONE),
        forgets=forgets,
        **_links(wiring),
        wait=min(limit_s, _LINKS_S),
    )
    start = ["systemctl", "start", *([] if waits else ["--no-block"]), "default.target"]
    needs = any(wire.planned.required and wire.up for wire in wiring.wires)
    if wiring.nat or (left and not needs):  # what the seed has of units is another thing then
        start = ["/bin/sh", "-c", f"systemctl daemon-reload && {shlex.join(start)}"]
    elif not left:
        return boot_id
    try:
        status, _, err = await execute(
            channel, start, user=None, cwd=None, env={}, input=None, timeout_s=limit_s
        )
    except Interrupted as error:
        raise FabricError(f"it did not start the rest in {limit_s:g} s") from error
    if status:
        note(err.decode(errors="replace").strip())
    return boot_id


def _links(wiring: Wiring) -> dict[str, Any]:
    """Links, as a clone is told of them: those of its cards are configured at once."""
    links, later = [], []
    for wire in wiring.wires:
        if not wire.up:
            continue
        link = wire.spec
        if link["kind"] in ("bridged", "trunk") and not wire.dhcp:
            links.append(
                {
                    "name": wire.name,
                    "mtu": link["mtu"],
                    "settings": list(settings_of(wire)),
                    "addresses": link["addresses"],
                    "routes": wire.routes,
                }
            )
        elif wire.planned.required:
            later.append(wire.name)
    return {"links": links, "later": later}


async def renew(reach: Reach, *, limit_s: float, note: Callable[[str], None]) -> str:
    """Have a machine that was put back know what time it is; returns what its boot is called."""
    channel = await _reached(reach, limit_s)
    return str((await _ask(channel, "renew", limit_s, note))["boot"])


async def _reached(reach: Reach, limit_s: float) -> Channel:
    """A channel by which its agent answers; who was there in its memory hangs up first."""
    seen = "it was not there"
    try:
        async with asyncio.timeout(limit_s):
            while True:
                try:
                    channel = await reach()
                    await channel.request("ping")
                except FabricError as error:
                    seen = str(error) or seen
                    await asyncio.sleep(_AGAIN_S)
                else:
                    return channel
    except TimeoutError:
        raise FabricError(f"its agent did not answer in {limit_s:g} s (last: {seen})") from None


async def _ask(
    channel: Channel, op: str, limit_s: float, note: Callable[[str], None], **fields: Any
) -> Mapping[str, Any]:
    if isinstance(channel, AsyncChannel):
        # it may be silent for long, where its processors are emulated; there is a limit for that
        channel.is_excused = lambda: True
    try:
        async with asyncio.timeout(limit_s):
            reply, _ = await channel.request(
                op, time=clock.unix_s(), entropy=secrets.token_hex(64), **fields
            )
    except TimeoutError:
        raise FabricError(f"its agent did not answer in {limit_s:g} s") from None
    for failure in reply["failed"]:
        note(failure)
    return reply


# what a domain is made of


def _of_model(xml: str, name: str, disk: Path, log: Path) -> str:
    """The XML of a machine as that of its model: taps of nobody's, and addresses of its own."""
    root = ElementTree.fromstring(xml)
    for tag, value in (("name", name), ("uuid", str(uuid.uuid4()))):
        element = root.find(tag)
        assert element is not None
        element.text = value
    for interface in root.iterfind("devices/interface"):
        for target in interface.findall("target"):
            interface.remove(target)
        mac = interface.find("mac")
        if mac is not None:
            mac.set("address", ":".join(["52", "54", *re.findall("..", secrets.token_hex(4))]))
    for serial in root.iterfind("devices/serial"):  # nobody looks at it but for an error
        serial.set("type", "file")
        for child in [each for each in serial if each.tag in ("source", "log")]:
            serial.remove(child)
        ElementTree.SubElement(serial, "source", path=str(log), append="on")
    source = root.find("devices/disk/source")
    assert source is not None
    source.set("file", str(disk))
    return ElementTree.tostring(root, encoding="unicode")


def _nowhere() -> Places:
    from pytest_carthage.providers.libvirt.domain import Places

    return Places(folder=Path("/"), short="", log=Path("/log"))


def _hardware(xml: str) -> str:
    """The XML of a machine without what is one machine's alone."""
    root = ElementTree.fromstring(xml)
    for tag in ("name", "uuid", "genid"):
        for element in root.findall(tag):
            root.remove(element)
    for interface in root.iterfind("devices/interface"):
        for tag in ("mac", "target", "alias"):
            for element in interface.findall(tag):
                interface.remove(element)
    return ElementTree.tostring(root, encoding="unicode")


def _versions(connection: Any) -> list[int]:
    return [connection.getVersion(), connection.getLibVersion()]


def _processor() -> list[str]:
    """What this host's processor is and can, which memory is not taken to another one of."""
    lines = Path("/proc/cpuinfo").read_text(errors="replace").split("\n\n")[0].splitlines()
    names = ("vendor_id", "cpu family", "model", "stepping", "flags", "Features", "CPU part")
    said = [line for line in lines if line.split("\t")[0].split(":")[0].strip() in names]
    return [platform.machine(), *said]
