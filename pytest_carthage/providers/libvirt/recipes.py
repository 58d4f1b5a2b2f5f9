"""What virtual machines are made of: those of the same boot to the same memory."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from pytest_carthage.channels.far.program import agent_program
from pytest_carthage.images.exports.boot.merged import locate
from pytest_carthage.images.exports.disks.values import BootDisk
from pytest_carthage.providers.libvirt.domain import Places

if TYPE_CHECKING:
    from pytest_carthage.model.vm import Vm
    from pytest_carthage.planning.plan import Plan, PlannedMachine
    from pytest_carthage.store.built import Built

__all__ = ["EARLY", "EARLY_BY_BUS", "MODEL_LINK", "MODEL_TARGET", "Recipe", "why_not"]

#: part of every key: raised when a model is made differently
_FORMAT = 2
#: what starts before a machine knows who it is: it is told later, or nobody asks for its name
EARLY = (
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
EARLY_BY_BUS = ("systemd-networkd.service",)
#: the unit that a model boots
MODEL_TARGET = """[Unit]
Description=What a machine has before it knows which one it is
Requires=basic.target
Wants=@EARLY@
After=basic.target @EARLY@
AllowIsolate=yes
"""
#: a card keeps the name that it is given, whatever udev would call it
MODEL_LINK = "[Match]\nOriginalName=*\n\n[Link]\nNamePolicy=\n"
_SYSTEMD = ("usr/lib/systemd/systemd", "lib/systemd/systemd")


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
            "model": [MODEL_TARGET, MODEL_LINK, EARLY, EARLY_BY_BUS],
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


def _nowhere() -> Places:
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


def _processor() -> list[str]:
    """What this host's processor is and can, which memory is not taken to another one of."""
    lines = Path("/proc/cpuinfo").read_text(errors="replace").split("\n\n")[0].splitlines()
    names = ("vendor_id", "cpu family", "model", "stepping", "flags", "Features", "CPU part")
    said = [line for line in lines if line.split("\t")[0].split(":")[0].strip() in names]
    return [platform.machine(), *said]
