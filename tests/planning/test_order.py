from __future__ import annotations

from graphlib import CycleError
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_carthage.planning.order import batches, cycle


def test_batches_are_as_early_as_possible_and_in_order() -> None:
    needs = {"web": ["db"], "gw": [], "db": ["gw"], "log": []}
    assert batches(needs) == [["gw", "log"], ["db"], ["web"]]


def test_batches_ignore_what_is_not_there() -> None:
    assert batches({"web": ["gone"]}) == [["web"]]


def test_cycle_names_each_that_waits_for_the_next() -> None:
    assert cycle({"a": ["c"], "b": ["a"], "c": ["b"], "d": ["a"]}) in (
        ("a", "c", "b", "a"),
        ("c", "b", "a", "c"),
        ("b", "a", "c", "b"),
    )
    assert cycle({"a": ["b"], "b": []}) == ()


@given(
    st.dictionaries(
        st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdef"), max_size=3), max_size=6
    )
)
def test_batches_and_cycle_agree(needs: dict[str, list[str]]) -> None:
    inner = {name: [n for n in waits if n in needs] for name, waits in needs.items()}
    round_trip = cycle(inner)
    if round_trip:
        assert round_trip[0] == round_trip[-1]
        for name, following in pairwise(round_trip):
            assert following in inner[name]
        with pytest.raises(CycleError):
            batches(needs)
        return
    done: set[str] = set()
    for batch in batches(needs):
        for name in batch:
            assert set(inner[name]) <= done
        done.update(batch)
    assert done == set(needs)
