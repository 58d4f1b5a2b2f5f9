"""What machines can be asked for: each capability's words, its operations, and what lacks it."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_carthage.handles.capability import CAPABILITIES, OPERATIONS, Capability, lacking

EVERYTHING = frozenset[str]().union(*OPERATIONS.values())


def test_capabilities_are_those_of_the_type() -> None:
    assert tuple(CAPABILITIES) == get_args(Capability)
    assert set(OPERATIONS) < set(CAPABILITIES)


@pytest.mark.parametrize(
    ("capability", "operations"),
    [
        ("run", {"run", "wait", "kill"}),
        ("files", {"open", "stat", "listdir", "mkdirs", "symlink", "chmod", "chown"}),
        ("connect", {"connect"}),
        ("socket", {"socket"}),
        ("listening", {"listening"}),
        ("observe", {"observe"}),
    ],
)
def test_capability_needs_every_one_of_its_operations(
    capability: Capability, operations: set[str]
) -> None:
    assert OPERATIONS[capability] == operations
    assert lacking(EVERYTHING) == frozenset()
    for operation in operations:
        having = EVERYTHING - {operation} - ({"socket"} if capability == "connect" else set())
        assert capability in lacking(having)
    assert capability not in lacking(operations)


def test_endpoint_that_has_nothing_lacks_all_that_has_operations() -> None:
    assert lacking([]) == frozenset(OPERATIONS)


def test_endpoint_that_gives_sockets_can_connect_and_not_the_other_way_round() -> None:
    assert "connect" not in lacking(["socket"])
    assert "socket" in lacking(["connect"])


def test_operations_that_are_known_of_no_capability_do_not_matter() -> None:
    assert lacking([*EVERYTHING, "teleport"]) == frozenset()
    assert lacking(["teleport"]) == lacking([])


@given(
    having=st.sets(st.sampled_from(sorted(EVERYTHING))), more=st.sampled_from(sorted(EVERYTHING))
)
def test_more_operations_never_lack_more(having: set[str], more: str) -> None:
    assert lacking({*having, more}) <= lacking(having)


def test_words_go_on_from_cannot() -> None:
    for words in CAPABILITIES.values():
        assert words.replace("ICMP", "").islower()
        assert not words.endswith(".")
        assert words.split()[0] not in ("a", "the", "to", "cannot")


@pytest.mark.parametrize("mapping", [CAPABILITIES, OPERATIONS])
def test_what_there_is_cannot_be_changed_by_who_looks(mapping: Any) -> None:
    with pytest.raises(TypeError):
        mapping["run"] = "something else"
