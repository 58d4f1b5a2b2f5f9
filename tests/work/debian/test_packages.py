"""Packages and units of a system that only says what is asked of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from pytest_carthage.errors import CommandError, TaskError
from pytest_carthage.handles.result import Result
from pytest_carthage.work.debian.packages import Supply, install, purge
from pytest_carthage.work.files.units import disable, enable

DPKG = "Package: base\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.0\n"


class System:
    """Answers commands with a status, and remembers them."""

    who = "machine 'web'"

    def __init__(self, files: Mapping[str, str], statuses: Mapping[str, int] | None = None) -> None:
        self.files = files
        self.statuses = dict(statuses or {})
        self.commands: list[str] = []
        self.environments: list[Mapping[str, str]] = []

    async def run(
        self,
        command: str | Sequence[str | os.PathLike[str]],
        *,
        env: Mapping[str, str] | None = None,
        timeout_s: float | None = 300.0,
        check: bool = True,
    ) -> Result:
        words = command if isinstance(command, str) else tuple(os.fspath(word) for word in command)
        text = words if isinstance(words, str) else " ".join(words)
        self.commands.append(text)
        self.environments.append(env or {})
        result = Result(
            machine="web",
            command=words,
            status=self.statuses.get(text.split()[0], 0),
            stdout="first\n\nlast\n",
            stderr="",
            started_at=0.0,
            duration_s=0.0,
        )
        if check and not result.ok:
            raise CommandError(f"{self.who}: it exited with status {result.status}", result)
        return result

    async def exists(self, path: str) -> bool:
        return path in self.files

    async def read_text(self, path: str) -> str:
        try:
            return self.files[path]
        except KeyError:
            raise FileNotFoundError(path) from None

    async def bring(self, source: Path, target: str, *, mode: int) -> None:
        self.commands.append(f"bring {target}")


SUPPLY = Supply(folder=Path("/nonexistent"))


def test_packages_that_are_there_need_nothing() -> None:
    system = System({"/var/lib/dpkg/status": DPKG})
    asyncio.run(install(system, ["base", "base=1.0", "base:amd64"], SUPPLY))
    assert system.commands == []


def test_name_that_is_none_is_refused_before_anything_is_asked() -> None:
    system = System({})
    with pytest.raises(TaskError, match=r"'a b' is no name .*; try: one name for each"):
        asyncio.run(install(system, ["a b"], SUPPLY))


def test_system_without_dpkg_is_told_with_what_to_do() -> None:
    with pytest.raises(TaskError, match=r"machine 'web': it has no dpkg, .*; try: a base that is"):
        asyncio.run(install(System({}), ["nginx"], SUPPLY))


def test_system_without_a_suite_is_told_with_what_to_do() -> None:
    system = System({"/var/lib/dpkg/status": DPKG, "/etc/os-release": "ID=other\n"})
    with pytest.raises(TaskError, match=r"its /etc/os-release names no suite .*; try: a base"):
        asyncio.run(install(system, ["nginx"], SUPPLY))


@pytest.mark.parametrize(("autoremove", "flag"), [(False, ""), (True, "--autoremove ")])
def test_purge_removes_what_is_there_and_leaves_no_folder(autoremove: bool, flag: str) -> None:
    system = System({"/var/lib/dpkg/status": DPKG})
    asyncio.run(purge(system, ["base", "other"], autoremove=autoremove))
    begin, apt, end = system.commands
    assert begin.startswith("rm -rf /run/carthage-packages; mkdir -p ")
    assert apt.startswith("apt-get -o")
    assert apt.endswith(f" purge --allow-remove-essential {flag}base")
    assert end == "rm -rf /run/carthage-packages"
    assert system.environments[1]["DEBIAN_FRONTEND"] == "noninteractive"


def test_purge_of_what_is_not_there_is_no_error() -> None:
    system = System({"/var/lib/dpkg/status": DPKG})
    asyncio.run(purge(system, ["other"], autoremove=False))
    assert system.commands == []


def test_failed_purge_tells_what_was_printed_last_and_leaves_no_folder() -> None:
    system = System({"/var/lib/dpkg/status": DPKG}, {"apt-get": 100})
    with pytest.raises(TaskError) as raised:
        asyncio.run(purge(system, ["base"], autoremove=False))
    assert str(raised.value) == (
        "machine 'web': packages base could not be removed: 'apt-get' exited with status 100; "
        "it printed last:\n  first\n  last"
    )
    assert system.commands[-1] == "rm -rf /run/carthage-packages"


# units


def test_units_are_started_where_systemd_runs_and_only_linked_elsewhere() -> None:
    running = System({"/run/systemd/system": ""})
    asyncio.run(enable(running, ["a", "b"]))
    asyncio.run(disable(running, ["a"]))
    assert running.commands == [
        "systemctl daemon-reload",
        "systemctl enable --now --quiet a b",
        "systemctl daemon-reload",
        "systemctl disable --now --quiet a",
    ]
    image = System({})
    asyncio.run(enable(image, ["a"]))
    assert image.commands == ["systemctl enable --quiet a"]
    assert image.environments == [{"SYSTEMD_OFFLINE": "1"}]


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (127, r'machine \'web\': no systemd to disable a; try: the package "systemd-sysv" first'),
        (1, r"machine 'web': cannot disable a: machine 'web': it exited with status 1"),
    ],
)
def test_unit_that_cannot_be_switched_is_told(status: int, text: str) -> None:
    with pytest.raises(TaskError, match=f"^{text}$"):
        asyncio.run(disable(System({}, {"systemctl": status}), ["a"]))
