"""Roles that welcome: whom, when, how often, and what if they cannot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pytest_carthage import CreationError, Layout, Machine, Network, Role, machine_task
from tests.realisation.conftest import Build, build, portal, recorder, state

if TYPE_CHECKING:
    from pytest_carthage.access.machine import AsyncMachine

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
        name: sorted(live.handle(name).read_text(LOG).split())
        for name in ("early", "guest", "host", "second")
    }
    both = ["host", "second"]
    assert read == {"early": both, "guest": both, "host": ["second"], "second": ["host"]}
    # who needs them has met them before its own tasks
    assert sorted(live.handle("guest").read_text("/run/before").split()) == both
    # a machine of the netns target has lost all that it had
    live.handle("early").restart()
    assert sorted(live.handle("early").read_text(LOG).split()) == both
    live.add("late", Machine(links={"eth0": Party.lan.at(".9")}, roles=[Guest()]))
    assert sorted(live.handle("late").read_text("/run/before").split()) == both
    # another one of that name is a newcomer again
    live.remove("late")
    live.add("late", Machine(links={"eth0": Party.lan.at(".9")}))
    assert sorted(live.handle("late").read_text(LOG).split()) == both


def test_who_is_off_is_welcomed_when_it_is_started(build: Build) -> None:
    live = build(Party)
    live.handle("host").stop()
    live.handle("early").stop()
    live.add("late", Machine(links={"eth0": Party.lan.at(".9")}))
    assert live.handle("late").read_text(LOG).split() == ["second"]
    live.handle("early").start()
    assert live.handle("early").read_text(LOG).split() == ["second"]
    live.handle("host").start()
    assert live.handle("early").read_text(LOG).split() == ["second", "host"]
    assert live.handle("late").read_text(LOG).split() == ["second", "host"]
    assert live.handle("host").read_text(LOG).split() == ["second"]
    # whom it has met before is not met again
    assert sorted(live.handle("guest").read_text(LOG).split()) == ["host", "second"]


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
        live.add("late", Machine(links={"eth0": Party.lan.at(".9")}))
    live.add("other", Machine(links={"eth0": Party.lan.at(".9")}))
    assert live.handle("other").read_text(LOG).split() != []
