"""The first machine of a recipe, which boots for all others, and is none of the layout.

It boots with a network that leads nowhere, and without the services that might know who it is:
those of systemd, sshd, cron and the like can be told that they are another's.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from pytest_carthage.channels.agent import Interrupted, execute
from pytest_carthage.channels.far.program import agent_program
from pytest_carthage.channels.far.window import add_window
from pytest_carthage.channels.log import Log
from pytest_carthage.errors import FabricError
from pytest_carthage.images.exports.boot.merged import locate
from pytest_carthage.images.seeds.seed import make_seed
from pytest_carthage.images.seeds.values import FileInSeed, text
from pytest_carthage.providers.libvirt import disks
from pytest_carthage.providers.libvirt.apart import MACHINES
from pytest_carthage.providers.libvirt.binding import Refused
from pytest_carthage.providers.libvirt.domain import Places
from pytest_carthage.providers.libvirt.memory import take_out
from pytest_carthage.providers.libvirt.recipes import (
    EARLY,
    EARLY_BY_BUS,
    MODEL_LINK,
    MODEL_TARGET,
    Recipe,
)
from pytest_carthage.providers.libvirt.waking import ask
from pytest_carthage.store import disk

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_carthage.handles.channel import Channel
    from pytest_carthage.planning.plan import PlannedMachine
    from pytest_carthage.providers.libvirt.service import Service
    from pytest_carthage.store.built import Built

__all__ = ["GONE", "LEFT", "boot_model"]

_TARGET = "carthage-model.target"
_TARGET_FILE = f"run/systemd/system/{_TARGET}"
_LINK_FILE = "run/systemd/network/00-carthage-model.link"
_WAIT = "systemd-networkd-wait-online.service"
_WAIT_FILE = f"etc/systemd/system/{_WAIT}"
#: files of the model that a clone does not have
GONE = (f"/{_TARGET_FILE}", f"/{_LINK_FILE}", f"/{_WAIT_FILE}", "/var/lib/systemd/random-seed")
#: of the folder with what was kept: units that a clone has to start, a line each
LEFT = "left"
_BUS = ("usr/lib/systemd/system/dbus.socket", "lib/systemd/system/dbus.socket")
_BOOTED = ("systemctl", "is-system-running", "--wait")
_DEPENDENCIES = ("systemctl", "list-dependencies", "--plain", "--no-pager")
_COMMAND_S = 60.0
#: a model has nothing more to do when its processors are idle for that long
_IDLE_S = 0.5
_IDLE = 0.9
_LOOKS = 40


async def boot_model(
    recipe: Recipe,
    service: Service,
    folder: Path,
    channel: Callable[[Path], Awaitable[Channel]],
    work: Path,
    note: Callable[[str], None],
) -> None:
    """Boot a model, and have its memory and its disk in the working folder."""
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
        (work / LEFT).write_text("\n".join(left))
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
        _TARGET_FILE: text(MODEL_TARGET.replace("@EARLY@", early)),
        _LINK_FILE: text(MODEL_LINK),
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
    return (*EARLY, *(EARLY_BY_BUS if has_bus else ()))


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
    await ask(channel, "renew", _COMMAND_S, note)
    await _run(channel, "true")
    await ask(channel, "sleep", _COMMAND_S, note)
    total, idle = 0, 0
    for _ in range(_LOOKS):
        told = (await _run(channel, "head", "-n1", "/proc/stat")).split()[1:]
        times = [int(field) for field in told]
        before, (total, idle) = (total, idle), (sum(times), sum(times[3:5]))
        if before[0] and idle - before[1] >= _IDLE * (total - before[0]):
            break
        await asyncio.sleep(_IDLE_S)


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
