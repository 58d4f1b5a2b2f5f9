"""Machines of each target, taken up by who comes after those that have built them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import Layout, Machine, Network
from pytest_carthage.errors import CreationError, StateError
from pytest_carthage.events import Silent
from pytest_carthage.fabric.host import privilege
from pytest_carthage.images.policy import Policy
from pytest_carthage.live import ledger
from pytest_carthage.live.environment import AsyncLayout
from pytest_carthage.live.standing import Standing, claim
from pytest_carthage.planning import make_plan
from pytest_carthage.portal import Portal
from pytest_carthage.provider import load_providers
from pytest_carthage.providers.netns import NetnsProvider
from pytest_carthage.providing import Providers, check
from pytest_carthage.state.listing import destroy_environment, find_environment
from pytest_carthage.state.run import Run
from pytest_carthage_fixtures.shop import Shop

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


class Mixed(Layout):
    """A machine of each kind."""

    lan = Network("10.0.0.0/24")
    image = Shop.debian
    bare = Machine(links={"eth0": lan.at(".1")})
    box = Machine(image, links={"eth0": lan.at(".2")})
    server = Machine(image, links={"eth0": lan.at(".3")}, init="systemd")
    pod = Machine(image, links={"eth0": lan.at(".4")}, on="podman", command="sleep infinity")


class Older(NetnsProvider):
    """A target that was written before machines were taken up."""

    take_up: Any = None


@pytest.fixture
def portal() -> Iterator[Portal]:
    made = Portal()
    yield made
    made.close()


@pytest.fixture
def standing(portal: Portal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Standing]:
    """The layout, kept by somebody who is gone."""
    monkeypatch.setenv("CARTHAGE_STATE", str(tmp_path / "state"))
    providers = Providers(load_providers())
    plan = make_plan(Mixed, targets=providers.traits)
    if lacking := [problem for problem in check(plan, providers) if not problem.is_guess]:
        pytest.skip("; ".join(map(str, lacking)))

    async def build() -> None:
        run = await Run.join("st")
        environment = await AsyncLayout.build(
            plan, name="st-mixed", run=run, providers=providers, portal=portal
        )
        ledger.begin(environment.folder, Mixed, plan)
        await environment.keep(for_s=600)
        await run.leave()

    portal.call(build)
    claimed = claim(find_environment("st-mixed"))
    yield claimed
    claimed.release()
    destroy_environment("st-mixed")
    runs = tmp_path / "state/runs"
    deadline = time.monotonic() + 10
    while any(path.is_dir() for path in runs.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def take_up(portal: Portal, standing: Standing) -> Callable[..., Mixed]:
    """Takes it up, as a new session does."""

    async def attach(netns: type[NetnsProvider]) -> AsyncLayout:
        providers = Providers({**load_providers(), "netns": lambda: netns()})
        return await standing.take_up(
            make_plan(Mixed, targets=Providers(load_providers()).traits),
            providers=providers,
            portal=portal,
            reporter=Silent(),
            subscribers=(),
            policy=Policy(),
            prologue=None,
        )

    return lambda netns=NetnsProvider: Mixed(portal.call(attach, netns))


def test_machines_of_all_kinds_are_operated_by_who_takes_them_up(
    portal: Portal,
    standing: Standing,
    take_up: Callable[..., Mixed],
) -> None:
    with pytest.raises(StateError, match=r"is used by process \d+ now; try: when that has ended"):
        claim(standing.listed)
    mixed = take_up()
    assert [machine.run("hostname").lines[0] for machine in mixed] == [
        "bare",
        "box",
        "server",
        "pod",
    ]
    for machine in mixed:
        machine.restart()
        assert machine is mixed.bare or mixed.bare.ping(machine.name) < 5
    assert mixed.server.run("systemctl is-active dbus").lines == ["active"]
    for target in ("netns", "podman"):
        declared = Machine(Shop.debian, links={"eth0": Mixed.lan.at("auto")}, on=target)
        more = mixed.add(declared, name="more")
        assert mixed.bare.ping(more.name) < 5
        mixed.remove(more.name)
    mixed.box.stop()
    mixed.pod.stop()
    if privilege.is_privileged():
        with mixed.inside("lan") as station:
            assert station.addresses
    portal.call(mixed.aio.detach)
    # and once more, with two that are off, and a station that was made before
    again = take_up()
    for machine in (again.box, again.pod):
        assert machine.aio.is_off
        machine.start()
        assert again.bare.ping(machine.name) < 5
    if privilege.is_privileged():
        with again.inside("lan") as station:
            assert station.addresses
    portal.call(again.aio.detach)
    with pytest.raises(
        CreationError,
        match=r"target 'netns' cannot take up a machine that stands; try: without --carthage-use",
    ):
        take_up(Older)
