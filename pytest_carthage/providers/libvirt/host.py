"""What this host offers for virtual machines, found out by looking: nothing is started."""

from __future__ import annotations

import os
import platform
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from pytest_carthage.errors import Problem
from pytest_carthage.fabric.host.programs import PATH
from pytest_carthage.providers.libvirt import packages

__all__ = [
    "Acceleration",
    "acceleration",
    "available_mib",
    "check",
    "emulator",
    "find_libvirtd",
    "problem",
]

_TUN = Path("/dev/net/tun")


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceleration:
    """Who carries out what a virtual machine's processors do."""

    #: "kvm", or "qemu" where all is emulated (TCG)
    kind: str
    #: why it is emulated; empty: it is not
    why: str = ""

    def __str__(self) -> str:
        if self.kind == "kvm":
            return "processors by KVM"
        return f"processors are emulated, about ten times slower: {self.why}"


def acceleration(
    device: Path = Path("/dev/kvm"), processors: Path = Path("/proc/cpuinfo")
) -> Acceleration:
    """Whether the kernel's KVM can be trusted with machines.

    A device that opens is not enough: where a host of clouds passes it on to a guest whose
    processors have neither VMX nor SVM, that emulates guest kernels, which do not survive it.
    """
    if not device.exists():
        return Acceleration(kind="qemu", why=f"there is no {device}")
    if not os.access(device, os.R_OK | os.W_OK):
        return Acceleration(kind="qemu", why=f"{device} is not writable for this user")
    if platform.machine() in ("x86_64", "i686"):
        try:
            flags = re.search(r"^flags\s*:(.*)$", processors.read_text(), re.MULTILINE)
        except OSError:
            flags = None
        if flags is None or not {"vmx", "svm"} & set(flags[1].split()):
            return Acceleration(
                kind="qemu",
                why=f"{device} is there, but the processors have neither vmx nor svm",
            )
    return Acceleration(kind="kvm")


def emulator() -> str | None:
    """Path of the emulator of this host's own kind of machine; None: there is none."""
    named = shutil.which(packages.qemu(), path=PATH)
    return named or shutil.which("qemu-kvm", path=f"{PATH}:/usr/libexec")


def find_libvirtd() -> str | None:
    """Path of the one daemon that serves all; None: there is none."""
    return shutil.which("libvirtd", path=PATH)


def available_mib(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Memory that can be had without swapping, by proc_meminfo(5), in MiB."""
    match = re.search(r"^MemAvailable:\s+(\d+) kB$", meminfo.read_text(), re.MULTILINE)
    return int(match[1]) // 1024 if match else 0


def problem(what: str, remedy: str) -> Problem:
    """Something that the libvirt target lacks here."""
    return Problem(who="libvirt", what=what, remedy=remedy)


def check(*, tpm: bool = False, uefi: bool = False, screens: bool = False) -> list[Problem]:
    """List what this host lacks for virtual machines.

    :param tpm: some of them have one.
    :param uefi: some of them boot by it.
    :param screens: text is read from some of their screens.
    """
    problems = packages.missing("libvirt", tpm=tpm, uefi=uefi, screens=screens)
    if not _TUN.exists():
        problems.append(problem(f"no {_TUN}", "modprobe tun"))
    return problems
