"""What lives outside of the fabric is destroyed, at whatever step who built it is killed.

The target is a third party's: an entry point of a distribution that only this test has.
"""

from __future__ import annotations

import pytest

from pytest_carthage.state.leftovers import collect_garbage, leftovers
from tests.state.huts import Huts
from tests.support import hut

#: each step of a life, whether a hut exists there, and whether the journal knows its id
STEPS: dict[str, tuple[bool, set[str] | None]] = {
    "unknown": (False, None),
    "intended": (False, set()),
    "asked": (False, set()),
    "created": (True, set()),
    "detailed": (True, {"id"}),
    "built": (True, {"id"}),
    "destroying": (True, {"id"}),
    "half-destroyed": (True, {"id"}),
    "destroyed": (False, {"id"}),
    "gone": (False, {"id"}),
}


@pytest.mark.parametrize("step", STEPS)
def test_builder_killed_leaves_nothing(huts: Huts, step: str) -> None:
    exists, known = STEPS[step]
    victim = huts.build(stop=step)
    huts.await_step(step, victim)
    assert len(list(huts.registry.glob("*.json"))) == exists
    outstanding = huts.outstanding()
    assert [set(dict(one.detail)) for one in outstanding] == ([] if known is None else [known])
    assert all(one.outside and one.name == "far" for one in outstanding)
    victim.kill()
    victim.wait()
    huts.assert_nothing_left()


@pytest.mark.parametrize("step", STEPS)
def test_builder_and_supervisor_killed_leave_what_gc_destroys(huts: Huts, step: str) -> None:
    victim = huts.build(stop=step)
    huts.await_step(step, victim)
    known = STEPS[step][1]
    huts.kill_supervisor()
    victim.kill()
    victim.wait()
    assert [left.name for left in leftovers()] == [str(one) for one in huts.outstanding()]
    collected = collect_garbage()
    assert collected.failed == []
    assert [line for line in collected.removed if line.startswith("hut ")] == (
        [] if known is None else [line for line in collected.removed if "crash-hamlet/far" in line]
    )
    assert "environment crash-hamlet" in collected.removed
    huts.assert_nothing_left()


def test_closed_by_its_builder_goes_through_the_provider(huts: Huts) -> None:
    builder = huts.build()
    assert builder.wait(60) == 0
    (line,) = huts.destroyed()
    assert line.startswith("far {'id': 'hut-")
    huts.assert_nothing_left()


def test_swept_with_the_detail_that_was_told_last(huts: Huts) -> None:
    victim = huts.build(stop="built")
    huts.await_step("built", victim)
    (record,) = hut.records()
    victim.kill()
    huts.assert_nothing_left()
    assert huts.destroyed() == [f"far {{'id': '{record['id']}'}}"]


def test_kept_one_is_destroyed_when_its_time_is_over(huts: Huts) -> None:
    assert huts.build("keep", "3").wait(60) == 0
    assert len(list(huts.registry.glob("*.json"))) == 1
    assert leftovers() == []
    huts.assert_nothing_left()


def test_supervisor_killed_in_its_sweep_leaves_what_gc_destroys(huts: Huts) -> None:
    victim = huts.build(stop="built")
    huts.await_step("built", victim)
    huts.stop_at("half-destroyed")
    victim.kill()
    huts.await_step("half-destroyed")
    (record,) = hut.records()
    huts.kill_supervisor()
    assert [str(one) for one in huts.outstanding()] == [f"hut crash-hamlet/far (id={record['id']})"]
    assert collect_garbage().failed == []
    huts.assert_nothing_left()
