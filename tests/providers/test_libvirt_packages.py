"""What a host lacks for virtual machines, and which packages have it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.providers.libvirt import packages


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A host that has nothing of it."""
    monkeypatch.setattr(shutil, "which", lambda name, path: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(packages, "_FIRMWARE", tmp_path)
    monkeypatch.setattr(os, "uname", lambda: Uname("x86_64"))


class Uname:
    def __init__(self, machine: str) -> None:
        self.machine = machine


@pytest.mark.usefixtures("bare")
def test_bare_host_lacks_all_with_debians_packages() -> None:
    problems = packages.missing("libvirt")
    assert [problem.what.partition(",")[0] for problem in problems] == [
        "no libvirtd",
        "no qemu-system-x86_64",
        "no qemu-img",
        "no libvirt-python",
        "no swtpm",
        f"no UEFI firmware in {packages._FIRMWARE}",
        "no tesseract",
    ]
    assert [problem.is_partial for problem in problems] == [False] * 4 + [True] * 3
    assert {name for problem in problems for name in problem.packages} == {
        *("libvirt-daemon", "libvirt-daemon-driver-qemu", "qemu-system-x86", "qemu-utils"),
        *("libvirt-dev", "pkg-config", "gcc", "libc6-dev", "python3-dev"),
        *("swtpm", "swtpm-tools", "ovmf", "tesseract-ocr"),
    }
    assert all(problem.remedy.startswith("apt-get install ") for problem in problems)


@pytest.mark.usefixtures("bare")
def test_what_no_machine_asks_for_is_not_missing() -> None:
    problems = packages.missing("libvirt", tpm=False, uefi=False, screens=False)
    assert not any(problem.is_partial for problem in problems)


@pytest.mark.usefixtures("bare")
def test_library_is_compiled_once_its_headers_are_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def library() -> tuple[str, tuple[str, ...], bool]:
        (problem,) = (each for each in packages.missing("libvirt") if each.extra)
        assert problem.extra == "libvirt"
        return problem.remedy, problem.packages, problem.is_own

    install = "python3 -m pip install 'pytest-carthage[libvirt]'"
    needs = ("libvirt-dev", "pkg-config", "gcc", "libc6-dev")
    (tmp_path / "Python.h").touch()
    assert library() == (f"apt-get install {' '.join(needs)}, then {install}", needs, False)
    monkeypatch.setattr(shutil, "which", lambda name, path: f"/usr/bin/{name}")
    status = 1

    def run(argv: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        assert argv == ["/usr/bin/pkg-config", "--exists", "libvirt"]
        return subprocess.CompletedProcess(argv, status)

    monkeypatch.setattr(subprocess, "run", run)
    assert library()[1] == needs
    status = 0
    assert library() == (install, (), True)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    ("machine", "program", "package"),
    [
        ("aarch64", "qemu-system-aarch64", "qemu-system-arm"),
        ("riscv64", "qemu-system-riscv64", "qemu-system"),
    ],
)
def test_emulator_is_that_of_the_hosts_kind(
    monkeypatch: pytest.MonkeyPatch, machine: str, program: str, package: str
) -> None:
    monkeypatch.setattr(os, "uname", lambda: Uname(machine))
    assert packages.qemu() == program
    (problem,) = (each for each in packages.missing("libvirt") if program in each.what)
    assert problem.packages == (package,)
    told = {name for each in packages.missing("libvirt") for name in each.packages}
    assert "ovmf" not in told
