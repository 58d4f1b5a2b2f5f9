"""The snippets of ``docs/how-to/break-the-network.md``."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pytest_carthage import Layout, Machine, Network, faults
from tests.live.conftest import Build, build, portal, recorder, state  # noqa: F401

pytestmark = pytest.mark.real


class Shop(Layout):
    lan = Network("10.0.0.0/24")
    dmz = Network("10.1.0.0/24")
    gw = Machine(links={"lan0": lan.at(".1"), "dmz0": dmz.at(".1")}, forward=True)
    db = Machine(links={"eth0": lan.at(".10", gateway=".1")})
    web = Machine(links={"eth0": dmz.at(".20", gateway=".1")})


@pytest.fixture
def shop(build: Build) -> Shop:  # noqa: F811
    return build(Shop)


# docs: impair
@pytest.mark.carthage_needs("delay", "loss")
def test_shop_is_usable_over_a_bad_line(shop: Shop) -> None:
    line = shop.web.link("dmz")
    with line.impair(delay_ms=40, jitter_ms=10, loss_pct=0.5, rate_mbit=10):
        assert shop.web.ping("gw", timeout_s=5) > 0.050
    assert min(shop.web.ping("gw") for _ in range(5)) < 0.050
    # docs: end


# docs: down
def test_a_pulled_cable(shop: Shop) -> None:
    cable = shop.web.link("eth0").down()
    assert "NO-CARRIER" in shop.web.run("ip link show eth0").stdout
    cable.heal()
    shop.web.ping("gw")
    # docs: end


# docs: partition
def test_web_and_db_cannot_see_each_other(shop: Shop) -> None:
    with shop.partition({shop.web}, {shop.db}):
        with pytest.raises(OSError, match="no echo"):
            shop.web.ping("db", timeout_s=0.5)
        shop.web.ping("gw")  # is in no group
    shop.web.ping("db")
    # docs: end


# docs: machine
def test_db_hangs_and_then_dies(shop: Shop) -> None:
    with shop.db.freeze():
        shop.web.ping("db")  # the kernel answers, no process does
    with shop.db.crash(), pytest.raises(OSError, match=r"no echo|unreachable"):
        shop.web.ping("db", timeout_s=0.5)
    shop.web.ping("db")  # healed: it was started again, and is ready
    # docs: end


# docs: fixture
@pytest.fixture
def slow_line(shop: Shop) -> None:
    shop.web.link("eth0").impair(delay_ms=20)  # heals when this fixture ends


# docs: end


def test_slow_line(shop: Shop, slow_line: None) -> None:
    assert shop.web.ping("gw") > 0.040


# docs: storm
def test_shop_survives_a_storm(shop: Shop, tmp_path: Path) -> None:
    with faults.storm(shop, seed=7, for_s=2, machines=["web", "db"]) as storm:
        storm.wait()
    shop.web.ping("db")
    tmp_path.joinpath("storm.json").write_text(storm.schedule.as_json())
    # docs: end
    # docs: replay
    schedule = faults.Schedule.of_json(tmp_path / "storm.json")
    with faults.replay(shop, schedule) as again:
        again.wait()
    # docs: end
    assert [one.subject for one in again.done] == [one.subject for one in storm.done]


def test_async(shop: Shop) -> None:
    async def go() -> None:
        # docs: aio
        web = shop.aio.web
        async with web.link("eth0").impair(loss_pct=100):
            with pytest.raises(OSError, match="no echo"):
                await web.ping("gw", timeout_s=0.5)
        fault = await shop.aio.partition({"web"}, {"db", "gw"})
        await fault.heal()
        # docs: end
        await web.ping("gw")

    asyncio.run(go())
