"""Roles that welcome: whom, when, how often, and what if they cannot."""

from __future__ import annotations

import runpy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_carthage import CreationError, Layout, Machine, Network, Role, machine_task
from tests.live.conftest import Build, build, portal, recorder, state

if TYPE_CHECKING:
    from pytest_carthage.live.machines.machine import AsyncMachine

__all__ = ["build", "portal", "recorder", "state"]

pytestmark = pytest.mark.real

LOG = "/run/welcomed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host(Role):
    offers = ("company",)
    refuses: str = ""

    @machine_task("open")
    async def open(self, machine: AsyncMachine) -> None:
        await machine.write_text("/run/open", "")

    async def refresh(self, machine: AsyncMachine) -> None:
        await machine.write_text("/run/open", "")

    async def welcome(self, own: AsyncMachine, newcomer: AsyncMachine) -> None:
        await newcomer.run(f"echo {own.name} >> {LOG}")
        assert await own.exists("/run/open")
        if newcomer.name == self.refuses:
            await own.run("echo no; false")


class Guest(Role):
    needs = ("company",)

    @machine_task("settle")
    async def settle(self, machine: AsyncMachine) -> None:
        await machine.run(f"cp {LOG} /run/before")


class Party(Layout):
    lan = Network("10.0.0.0/24")
    early = Machine(links={"eth0": lan.at(".1")})
    guest = Machine(links={"eth0": lan.at(".2")}, roles=[Guest()])
    host = Machine(links={"eth0": lan.at(".3")}, roles=[Host()], after=["early"])
    second = Machine(links={"eth0": lan.at(".4")}, roles=[Host()], after=["host"])


def test_each_machine_is_welcomed_once_by_each_host(build: Build) -> None:
    live = build(Party)
    read = {
        name: sorted(live[name].read_text(LOG).split())
        for name in ("early", "guest", "host", "second")
    }
    both = ["host", "second"]
    assert read == {"early": both, "guest": both, "host": ["second"], "second": ["host"]}
    # who needs them has met them before its own tasks
    assert sorted(live["guest"].read_text("/run/before").split()) == both
    # a machine of the netns target has lost all that it had
    live["early"].restart()
    assert sorted(live["early"].read_text(LOG).split()) == both
    live.add(name="late", machine=Machine(links={"eth0": Party.lan.at(".9")}, roles=[Guest()]))
    assert sorted(live["late"].read_text("/run/before").split()) == both
    # another one of that name is a newcomer again
    live.remove("late")
    live.add(name="late", machine=Machine(links={"eth0": Party.lan.at(".9")}))
    assert sorted(live["late"].read_text(LOG).split()) == both


def test_who_is_off_is_welcomed_when_it_is_started(build: Build) -> None:
    live = build(Party)
    live["host"].stop()
    live["early"].stop()
    live.add(name="late", machine=Machine(links={"eth0": Party.lan.at(".9")}))
    assert live["late"].read_text(LOG).split() == ["second"]
    live["early"].start()
    assert live["early"].read_text(LOG).split() == ["second"]
    live["host"].start()
    assert live["early"].read_text(LOG).split() == ["second", "host"]
    assert live["late"].read_text(LOG).split() == ["second", "host"]
    assert live["host"].read_text(LOG).split() == ["second"]
    # whom it has met before is not met again
    assert sorted(live["guest"].read_text(LOG).split()) == ["host", "second"]


def test_host_that_cannot_welcome_is_told(build: Build) -> None:
    class Rude(Party):
        host = Party.host.replace(roles=[Host(refuses="early")])

    with pytest.raises(
        CreationError,
        match=r"(?s)role Host of machine 'host' could not welcome machine 'early': .*exited with",
    ):
        build(Rude)


def test_newcomer_that_is_not_welcome_is_not_created(build: Build) -> None:
    class Choosy(Party):
        host = Party.host.replace(roles=[Host(refuses="late")])

    live = build(Choosy)
    with pytest.raises(CreationError, match="could not welcome machine 'late'"):
        live.add(name="late", machine=Machine(links={"eth0": Party.lan.at(".9")}))
    live.add(name="other", machine=Machine(links={"eth0": Party.lan.at(".9")}))
    assert live["other"].read_text(LOG).split() != []


HOST = """
import asyncio
from pathlib import Path
from pytest_carthage import Role, machine_task

class Host(Role):
    @machine_task
    async def wait(self, machine):
        while not Path({settling!r}).exists():  # who is up before welcomes who comes
            await asyncio.sleep(0.02)

    async def welcome(self, own, newcomer):
        await newcomer.put("own.txt", "/srv/from-host")
        await newcomer.write_text("/run/welcomed", "")

    async def refresh(self, machine):
        await machine.put("own.txt", "/srv/refreshed")
"""

GUEST = """
from pathlib import Path
from pytest_carthage import Role, machine_task

class Guest(Role):
    @machine_task
    async def settle(self, machine):
        await machine.put("own.txt", "/srv/first")
        Path({settling!r}).touch()
        await machine.run("until [ -e /run/welcomed ]; do sleep 0.02; done", timeout_s=30)
        await machine.put("own.txt", "/srv/second")
"""


def test_welcome_has_paths_of_its_own_while_the_newcomer_does_its_tasks(
    build: Build, tmp_path: Path
) -> None:
    roles = {}
    for name, text in (("Host", HOST), ("Guest", GUEST)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "own.txt").write_text(name)
        text = text.replace("{settling!r}", repr(str(tmp_path / "settling")))
        (folder / "roles.py").write_text(text)
        roles[name] = runpy.run_path(str(folder / "roles.py"))[name]

    class Late(Layout):
        lan = Network("10.0.0.0/24")
        guest = Machine(links={"eth0": lan.at(".1")}, roles=[roles["Guest"]()])
        host = Machine(links={"eth0": lan.at(".2")}, roles=[roles["Host"]()])

    live = build(Late)
    guest, host = live["guest"], live["host"]
    assert guest.read_text("/srv/from-host") == "Host"
    assert (guest.read_text("/srv/first"), guest.read_text("/srv/second")) == ("Guest", "Guest")
    host.restart()
    assert host.read_text("/srv/refreshed") == "Host"
