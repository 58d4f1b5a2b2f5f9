"""When a main process is started again."""

from __future__ import annotations

import pytest

from pytest_carthage.fabric.restarting import Restarting


def pauses(policy: str, *ends: tuple[int, float]) -> list[float | None]:
    """What comes of each end (status, seconds of life), where every restart succeeds."""
    restarting = Restarting(policy)
    found = []
    for status, lived_s in ends:
        found.append(restarting.after(status, lived_s))
        restarting.count += 1
    return found


@pytest.mark.parametrize(
    ("policy", "after_success", "after_failure"),
    [("no", None, None), ("on-failure", None, 0.1), ("always", 0.1, 0.1)],
)
def test_policy_says_what_is_started_again(
    policy: str, after_success: float | None, after_failure: float | None
) -> None:
    assert pauses(policy, (0, 1.0)) == [after_success]
    assert pauses(policy, (1, 1.0)) == [after_failure]
    assert pauses(policy, (-9, 1.0)) == [after_failure]
    assert Restarting(policy).is_on is (policy != "no")


def test_each_pause_is_twice_the_last_one_up_to_a_minute() -> None:
    found = pauses("always", *[(1, 0.0)] * 12)
    assert found == [0.1 * 2**n for n in range(10)] + [60.0, 60.0]


def test_pause_is_short_again_after_a_good_life() -> None:
    assert pauses("always", (1, 0.0), (1, 9.9), (1, 10.0), (1, 0.0)) == [0.1, 0.2, 0.1, 0.2]


def test_failures_are_followed_by_no_more_restarts_than_are_allowed() -> None:
    assert pauses("on-failure:2", *[(1, 20.0)] * 3) == [0.1, 0.1, None]
