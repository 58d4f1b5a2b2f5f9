"""What of a host makes virtual machines: programs, and the Debian packages that have them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

from pytest_carthage.errors import Problem
from pytest_carthage.fabric.host.programs import PATH

__all__ = ["missing", "missing_for_others", "qemu"]

#: by machine: the program that emulates it, and the packages of that and of its UEFI firmware
_QEMU = {
    "x86_64": ("qemu-system-x86_64", "qemu-system-x86", "ovmf"),
    "aarch64": ("qemu-system-aarch64", "qemu-system-arm", "qemu-efi-aarch64"),
}
#: where firmware tells of itself, see QEMU's docs/interop/firmware.json
_FIRMWARE = Path("/usr/share/qemu/firmware")
_HEADERS = ("libvirt-dev", "pkg-config", "gcc", "libc6-dev")
_INSTALL = "python3 -m pip install 'pytest-carthage[libvirt]'"


def qemu() -> str:
    """Name of the program that emulates a machine like this host."""
    machine = os.uname().machine
    return _QEMU[machine][0] if machine in _QEMU else f"qemu-system-{machine}"


def missing(
    who: str, *, tpm: bool = True, uefi: bool = True, screens: bool = True
) -> list[Problem]:
    """List what this host lacks for virtual machines; nothing is changed.

    :param tpm: some have a TPM.
    :param uefi: some boot by UEFI.
    :param screens: text is read from some screens.
    """
    emulator, package, firmware = _QEMU.get(os.uname().machine, (qemu(), "qemu-system", ""))
    problems = [
        *_missing_program(
            who, "libvirtd", "runs them", "libvirt-daemon", "libvirt-daemon-driver-qemu"
        ),
        *_missing_program(who, emulator, "emulates them", package),
        *_missing_program(who, "qemu-img", "makes their disks", "qemu-utils"),
        *_missing_library(who),
    ]
    if tpm:
        purpose = "is the TPM of those with tpm=True"
        problems += _missing_program(who, "swtpm", purpose, "swtpm", "swtpm-tools", is_partial=True)
    if uefi and firmware and not any(_FIRMWARE.glob(f"*-edk2-{os.uname().machine}*.json")):
        what = f'no UEFI firmware in {_FIRMWARE}, which those with firmware="uefi" boot by'
        problems.append(_problem(who, what, firmware, is_partial=True))
    if screens:
        purpose = "reads the text on their screens"
        problems += _missing_program(who, "tesseract", purpose, "tesseract-ocr", is_partial=True)
    return problems


def missing_for_others(who: str) -> list[Problem]:
    """List what this host lacks for machines of other hosts."""
    return [
        *_missing_program(who, "qemu-img", "makes their disks", "qemu-utils"),
        *_missing_library(who),
    ]


def _missing_program(
    who: str, program: str, purpose: str, *packages: str, is_partial: bool = False
) -> list[Problem]:
    if shutil.which(program, path=PATH):
        return []
    what = f"no {program}, which {purpose}"
    return [_problem(who, what, *packages, is_partial=is_partial)]


def _problem(who: str, what: str, *packages: str, is_partial: bool) -> Problem:
    remedy = f"apt-get install {' '.join(packages)}"
    return Problem(who=who, what=what, remedy=remedy, packages=packages, is_partial=is_partial)


def _missing_library(who: str) -> list[Problem]:
    """libvirt-python, and what compiles it: there are no wheels of it."""
    if importlib.util.find_spec("libvirt") is not None:
        return []
    packages: list[str] = []
    if not _has_headers():
        packages += _HEADERS
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        packages.append("python3-dev")
    first = f"apt-get install {' '.join(packages)}, then " if packages else ""
    return [
        Problem(
            who=who,
            what="no libvirt-python, which speaks with libvirtd",
            remedy=f"{first}{_INSTALL}",
            packages=tuple(packages),
            extra="libvirt",
            is_own=not packages,
        )
    ]


def _has_headers() -> bool:
    """Whether libvirt's are there, and a compiler."""
    pkg_config, compiler = (shutil.which(name, path=PATH) for name in ("pkg-config", "gcc"))
    if pkg_config is None or compiler is None:
        return False
    return subprocess.run([pkg_config, "--exists", "libvirt"], check=False).returncode == 0
