"""``doctor``: what is missing, and how it is cured."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import cli
from pytest_carthage.cli import doctor, reference
from pytest_carthage.errors import Problem
from pytest_carthage.fabric.host import sysctl
from pytest_carthage.placing import quotas
from pytest_carthage.placing.quotas import Demand

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


class StrawTarget(Target):
    """One whose machines are not the same on every host."""

    def describe(self) -> str:
        return "walls of straw"


@pytest.fixture
def hut(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Target:
    """The only target that there is."""
    from pytest_carthage.providing import Providers

    monkeypatch.setenv("CARTHAGE_STATE", str(tmp_path / "state"))
    target = Target()
    factories: dict[str, Any] = {"hut": lambda: target}
    monkeypatch.setattr(reference, "providers", lambda: Providers(factories))
    monkeypatch.setattr(doctor, "_missing_to_images", list)
    monkeypatch.setattr(doctor, "_how", lambda: "as root")
    monkeypatch.setattr(doctor, "is_privileged", lambda: True)
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


def test_doctor_says_what_machines_of_a_target_are_like_here(
    hut: Target, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # what has a method is remembered of a class
    monkeypatch.setattr(hut, "__class__", StrawTarget)
    assert cli.main(["doctor", "hut"]) == 1
    assert capfd.readouterr().out.startswith("hut: 1 missing, walls of straw\n")
    hut.problems = []
    assert cli.main(["doctor", "hut"]) == 0
    assert capfd.readouterr().out == "hut: ready, walls of straw\n"


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


def test_fix_runs_what_only_root_may_once(
    hut: Target, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[list[str]] = []
    command = ("usermod", "--add-subuids", "1-2", "me")
    problem = Problem(who="hut", what="no ids", remedy=" ".join(command), command=command)
    hut.problems = [problem, Problem(who="hut", what="more", remedy="it", command=command)]
    assert cli.main(["doctor"]) == 1
    told = capfd.readouterr().out
    assert "pytest-carthage doctor --fix runs as root: usermod --add-subuids 1-2 me\n" in told

    def run(argv: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        called.append(argv)
        hut.problems = []
        return subprocess.CompletedProcess(argv, 0)

    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(subprocess, "run", run)
    assert cli.main(["doctor", "--fix"]) == 0
    assert called == [["/usr/bin/sudo", *command]]


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
        (
            ("apt-get",),
            "--fix needs root; as root: /usr/bin/apt-get update --quiet; /usr/bin/apt-get ",
        ),
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


@pytest.mark.parametrize(
    ("traits", "state", "status"),
    [
        ({}, "1 missing, root would add 1", 1),
        ({"is_partial": True}, "ready, root would add 1", 0),
        ({"is_partial": True, "is_own": True}, "1 missing", 1),
    ],
)
def test_without_root_counts_what_the_user_can_use_and_cure(
    hut: Target,
    capfd: Capture,
    monkeypatch: pytest.MonkeyPatch,
    traits: dict[str, Any],
    state: str,
    status: int,
) -> None:
    monkeypatch.setattr(doctor, "is_privileged", lambda: False)
    monkeypatch.setattr(doctor, "_missing_to_user", lambda name: [])
    hut.problems = [replace(Problem(who="hut", what="no hut", remedy="build it"), **traits)]
    assert cli.main(["doctor"]) == status
    whose = "try" if "is_own" in traits else "root"
    assert capfd.readouterr().out.startswith(f"hut: {state}\n  no hut\n    {whose}: build it\n")
    assert cli.main(["doctor", "hut"]) == 1, "who names a target wants it to be ready"


@pytest.mark.parametrize("is_root", [True, False], ids=["root", "user"])
def test_target_without_its_extra_counts_where_it_is_named(
    hut: Target, capfd: Capture, monkeypatch: pytest.MonkeyPatch, is_root: bool
) -> None:
    from pytest_carthage.providing import Providers

    tent = Target()
    tent.problems = []
    factories: dict[str, Any] = {"tent": lambda: tent, "hut": lambda: hut}
    monkeypatch.setattr(reference, "providers", lambda: Providers(factories))
    monkeypatch.setattr(doctor, "is_privileged", lambda: is_root)
    monkeypatch.setattr(doctor, "_missing_to_user", lambda name: [])
    monkeypatch.setattr(doctor, "_install", lambda packages: pytest.fail("nobody asked for it"))
    extra = Problem(who="hut", what="no hut-py", remedy="pip install hut-py", extra="hut")
    hut.problems.append(replace(extra, is_own=True))
    assert cli.main(["doctor", "--fix"]) == 0
    told = capfd.readouterr().out
    assert "hut: not installed\n  no hut-py\n    try: pip install hut-py\n" in told
    assert "no hut here" not in told
    assert cli.main(["doctor", "hut"]) == 1
    assert "  no hut here\n" in capfd.readouterr().out


# limits of the kernel


@pytest.fixture
def raised(hut: Target, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What would have been raised, of a limit that is too low until then."""
    done: dict[str, int] = {}

    def look(who: str, demand: Demand) -> list[Problem]:
        assert demand.booted == 40
        what = Problem(who=who, what="few hooks", remedy="sysctl", settings={"hut.hooks": 80})
        return [] if done else [what]

    def keep(values: Mapping[str, int]) -> list[str]:
        done.update(values)
        return ["hut.hooks: 8, now 80"]

    hut.problems = []
    monkeypatch.setattr(quotas, "problems", look)
    monkeypatch.setattr(sysctl, "keep", keep)
    return done


def test_limits_are_looked_at_for_so_many_machines(raised: dict[str, int], capfd: Capture) -> None:
    assert cli.main(["doctor", "--machines", "40", "hut"]) == 1
    assert capfd.readouterr().out == (
        "hut: ready\nlimits: 1 too low\n  few hooks\n    try: sysctl\n"
    )
    assert raised == {}


def test_fix_raises_limits_and_says_so(raised: dict[str, int], capfd: Capture) -> None:
    assert cli.main(["doctor", "--machines", "40", "--fix"]) == 0
    printed = capfd.readouterr()
    assert printed.err == "hut.hooks: 8, now 80\n"
    assert "limits: high enough" in printed.out
    assert raised == {"hut.hooks": 80}


def test_fix_without_a_number_of_machines_raises_nothing(raised: dict[str, int]) -> None:
    assert cli.main(["doctor", "--fix"]) == 0
    assert raised == {}


def test_fix_of_limits_without_root_says_what_to_do(
    raised: dict[str, int], monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    def refuse(values: Mapping[str, int]) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(sysctl, "keep", refuse)
    assert cli.main(["doctor", "--machines", "40", "--fix"]) == 1
    assert "as root: sysctl -w hut.hooks=80" in capfd.readouterr().err


def test_number_of_machines_is_one(capfd: Capture) -> None:
    with pytest.raises(SystemExit):
        cli.main(["doctor", "--machines", "few"])
    assert "'few' is no number of machines" in capfd.readouterr().err
