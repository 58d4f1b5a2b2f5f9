"""Random schedules of faults: drawn purely, carried out for real, replayed exactly."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import Layout, Machine, Network, faults
from pytest_carthage.errors import HostError
from pytest_carthage.planning import make_plan
from tests.live.conftest import Build


class Shop(Layout):
    lan = Network("10.0.0.0/24")
    dmz = Network("10.1.0.0/24")
    gw = Machine(links={"lan0": lan.at(".254"), "dmz0": dmz.at(".254")}, forward=True)
    db = Machine(links={"eth0": lan.at(".1")})
    web = Machine(links={"eth0": dmz.at(".1")})


PLAN = make_plan(Shop)


def drawn(**parameters: Any) -> faults.Schedule:
    return faults.schedule(PLAN, **{"seed": 7, "for_s": 60.0, "per_s": 3.0, **parameters})


def test_schedule_is_a_function_of_its_arguments() -> None:
    assert drawn() == drawn() == faults.schedule(make_plan(Shop), seed=7, for_s=60, per_s=3)
    assert drawn() != drawn(seed=8)
    assert drawn(kinds=("down", "loss")) == drawn(kinds=["loss", "down"])
    assert {fault.kind for fault in drawn(for_s=300).faults} == set(faults.KINDS)


def test_schedule_stays_what_it_is_across_versions() -> None:
    """A seed in somebody's bug report must mean the same tomorrow."""
    assert str(drawn(for_s=4.0)).splitlines() == [
        "storm of 4 s, seed 7, 5 faults",
        "    0.415 s to   2.195 s  db.eth0 delay_ms=39.11 jitter_ms=39.11",
        "    0.491 s to   1.664 s  partition gw | db web",
        "    1.943 s to   2.749 s  web.eth0 loss_pct=6.27",
        "    3.070 s to   4.000 s  db.eth0 rate_mbit=27.41",
        "    3.729 s to   4.000 s  gw.dmz0 rate_mbit=37.9",
    ]


def test_schedule_never_has_two_faults_that_exclude_each_other() -> None:
    many = drawn(for_s=200, per_s=20, kinds=faults.CAPABILITIES)
    assert {fault.kind for fault in many.faults} == set(faults.CAPABILITIES)
    assert len(many.faults) > 100
    for number, fault in enumerate(many.faults):
        assert 0 <= fault.at_s < fault.ends_s <= 200.001
        for other in many.faults[number + 1 :]:
            if other.at_s < fault.ends_s - 0.001:
                assert not _exclude(fault, other), f"{fault}\n{other}"


def _exclude(one: faults.ScheduledFault, other: faults.ScheduledFault) -> bool:
    if one.kind == "partition":
        return other.kind == "partition"
    if (one.machine, one.interface) != (other.machine, other.interface):
        return False
    return not one.interface or bool(one.values) == bool(other.values)


def test_schedule_hits_only_what_it_may() -> None:
    some = drawn(machines=["gw"], networks=["lan"], for_s=100)
    assert {(f.machine, f.interface) for f in some.faults} == {("gw", "lan0"), ("gw", "")}
    assert "partition" not in {fault.kind for fault in some.faults}
    with pytest.raises(LookupError, match="layout 'Shop' has no machine 'x'; it has: gw, db, web"):
        drawn(machines=["x"])
    with pytest.raises(LookupError, match="layout 'Shop' has no network 'wan'"):
        drawn(networks=["wan"])
    with pytest.raises(ValueError, match="nothing is left that this storm could hit"):
        drawn(machines=["db"], kinds=["partition"])


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"kinds": ["rain"]}, "no fault 'rain'; there are: loss, delay"),
        ({"for_s": 0}, "for_s=0: a storm lasts more than 0 s"),
        ({"per_s": -1}, "per_s=-1 is not between 0 and 1000"),
        ({"lasts_s": (2, 1)}, r"lasts_s=\(2, 1\): not 0 < least <= most"),
    ],
)
def test_schedule_refuses_parameters_that_make_no_sense(
    parameters: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        drawn(**parameters)


def test_schedule_survives_a_file(tmp_path: Path) -> None:
    file = tmp_path / "storm.json"
    file.write_text(drawn().as_json())
    assert faults.Schedule.of_json(file) == drawn()
    with pytest.raises(ValueError, match="this text holds no schedule of faults"):
        faults.Schedule.of_json("[]")
    with pytest.raises(ValueError, match="this text holds no schedule of faults: another format"):
        faults.Schedule.of_json('{"format": 9}')


@pytest.fixture
def shop(build: Build) -> Layout:
    return build(Shop)


@pytest.mark.real
def test_storm_does_what_its_schedule_says_and_leaves_nothing(shop: Layout) -> None:
    with faults.storm(shop, seed=3, for_s=2.0, per_s=8, lasts_s=(0.1, 0.5)) as storm:
        storm.wait()
    assert storm.failures == ()
    assert len(storm.done) == len(storm.schedule.faults) > 6
    for fault, done in zip(storm.schedule.faults, storm.done, strict=True):
        assert done.healed_s is not None
        assert abs(done.began_s - storm.aio.began_s - fault.at_s) < 0.6
        assert abs(done.healed_s - storm.aio.began_s - fault.ends_s) < 0.6
        assert done.record()["part_of"] == "storm seed 3"
    assert not shop.aio.rooms.faults.active
    assert shop["gw"].ping("db") < 0.5


@pytest.mark.real
def test_storm_is_replayed_exactly(shop: Layout) -> None:
    first = faults.storm(shop, seed=3, for_s=1.0, per_s=8, lasts_s=(0.1, 0.5))
    first.wait()
    again = faults.replay(shop, faults.Schedule.of_json(first.schedule.as_json()))
    again.wait()
    assert [fault.subject for fault in again.done] == [fault.subject for fault in first.done]
    assert again.schedule == first.schedule


@pytest.mark.real
def test_storm_that_ends_early_heals_all_and_tells_its_seed(shop: Layout) -> None:
    begin = time.monotonic()
    storm = faults.storm(shop, seed=5, for_s=600, per_s=30, lasts_s=(300, 300))
    while len(storm.done) < 4:
        time.sleep(0.01)
    with pytest.raises(ZeroDivisionError) as raised, storm:
        _ = 1 / 0
    assert time.monotonic() - begin < 10
    assert "this was in a storm of 600 s, seed 5" in raised.value.__notes__[0]
    assert not shop.aio.rooms.faults.active
    assert shop["gw"].ping("db") < 1.5


@pytest.mark.real
def test_async_storm(shop: Layout) -> None:
    async def fail() -> None:
        async with faults.storm_aio(shop.aio, seed=5, for_s=30, per_s=30):
            await asyncio.sleep(0.5)
            raise KeyError("x")

    async def go() -> None:
        with pytest.raises(KeyError) as raised:
            await fail()
        assert "seed 5" in raised.value.__notes__[0]
        (storm, *begun) = shop.aio.disturbances
        assert storm.kind == "storm"
        assert begun
        assert not any(fault.is_active for fault in (storm, *begun))

    asyncio.run(go())


@pytest.mark.real
def test_storm_notes_what_was_in_its_way_and_goes_on(shop: Layout) -> None:
    only = {"machines": ["db"], "kinds": ["freeze"]}
    with (
        shop["db"].freeze(),
        faults.storm(shop, seed=1, for_s=1.0, per_s=10, lasts_s=(0.1, 0.1), **only) as storm,
    ):
        storm.wait()
    assert not storm.done
    assert "'machine db frozen' is in force" in storm.failures[0]


def test_storm_is_refused_where_its_faults_cannot_be_done(
    shop: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_carthage.live.faults import storm as storms
    from pytest_carthage.live.faults.probing import lack

    with monkeypatch.context() as patch:
        patch.setattr(storms, "lacking", lambda names: [lack("delay", "no such thing")])
        with pytest.raises(HostError, match="delay cannot be done on this host"):
            faults.storm(shop, seed=1)
    other = faults.Schedule(
        seed=None,
        for_s=1,
        faults=(faults.ScheduledFault(at_s=0, for_s=1, kind="freeze", machine="x"),),
    )
    with pytest.raises(LookupError, match=r"no machine 'x', which the schedule's '0\.000 s to"):
        faults.replay(shop, other)
