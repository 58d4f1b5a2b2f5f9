"""``doctor``: what is missing, and how it is cured."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

import pytest

from pytest_carthage import cli
from pytest_carthage.cli import doctor, reference
from pytest_carthage.errors import Problem

Capture = pytest.CaptureFixture[str]


class Target:
    """A target that lacks a tool until it is installed."""

    def __init__(self) -> None:
        self.problems: list[Problem] = [
            Problem(
                who="hut",
                what="no hut here",
                remedy="apt-get install hut",
                packages=("hut", "hut-data"),
            )
        ]

    def check(self, plan: object = None) -> Sequence[Problem]:
        return self.problems


@pytest.fixture
def hut(monkeypatch: pytest.MonkeyPatch) -> Target:
    """The only target that there is."""
    from pytest_carthage.realisation import Providers

    target = Target()
    factories: dict[str, Any] = {"hut": lambda: target}
    monkeypatch.setattr(reference, "providers", lambda: Providers(factories))
    monkeypatch.setattr(doctor, "_missing_to_images", list)
    monkeypatch.setattr(doctor, "_how", lambda: "as root")
    return target


def test_doctor_prints_what_is_missing_with_its_remedy(hut: Target, capfd: Capture) -> None:
    assert cli.main(["doctor"]) == 1
    assert capfd.readouterr().out == (
        "hut: 1 missing\n"
        "  no hut here\n"
        "    try: apt-get install hut\n"
        "images: ready, built as root\n"
        "pytest-carthage doctor --fix installs: hut, hut-data\n"
    )


def test_doctor_of_a_sound_host_is_content(hut: Target, capfd: Capture) -> None:
    hut.problems = []
    assert cli.main(["doctor", "hut"]) == 0
    assert capfd.readouterr().out == "hut: ready\n"


def test_doctor_json_has_the_packages(hut: Target, capfd: Capture) -> None:
    assert cli.main(["doctor", "--json"]) == 1
    assert json.loads(capfd.readouterr().out)["hut"][0]["packages"] == ["hut", "hut-data"]


def test_unknown_target_lists_what_there_is(hut: Target, capfd: Capture) -> None:
    assert cli.main(["doctor", "cloud"]) == 2
    assert capfd.readouterr().err == ("pytest-carthage: unknown target 'cloud'; there are: hut\n")


def test_fix_installs_and_looks_again(
    hut: Target, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[list[str]] = []

    def run(argv: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        called.append(argv)
        hut.problems = []
        return subprocess.CompletedProcess(argv, 0)

    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(subprocess, "run", run)
    assert cli.main(["doctor", "--fix"]) == 0
    update, install = called
    assert update[:3] == ["/usr/bin/sudo", "/usr/bin/apt-get", "update"]
    assert install[:3] == ["/usr/bin/sudo", "/usr/bin/apt-get", "install"]
    assert install[-2:] == ["hut", "hut-data"]
    assert capfd.readouterr().out == "hut: ready\nimages: ready, built as root\n"


def test_fix_that_fails_says_what_failed(
    hut: Target, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(subprocess, "run", lambda argv, **_: subprocess.CompletedProcess(argv, 100))
    assert cli.main(["doctor", "--fix"]) == 1
    message = capfd.readouterr().err.splitlines()[-1]
    assert message.startswith("pytest-carthage: /usr/bin/apt-get install ")
    assert message.endswith(" hut hut-data: exited with status 100")


@pytest.mark.parametrize(
    ("present", "message"),
    [
        ((), "--fix installs Debian packages, and there is no apt-get here; install these by hand"),
        (("apt-get",), "--fix needs root; as root: apt-get update; /usr/bin/apt-get install "),
    ],
)
def test_fix_that_cannot_begin_says_why(
    hut: Target,
    capfd: Capture,
    monkeypatch: pytest.MonkeyPatch,
    present: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.setattr(
        shutil, "which", lambda name: f"/usr/bin/{name}" if name in present else None
    )
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cli.main(["doctor", "--fix"]) == 1
    assert message in capfd.readouterr().err
