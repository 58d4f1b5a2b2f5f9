"""Declarations that are used as if they lived."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from pytest_carthage import Image, Layout, LayoutError, Machine, Network


class Pair(Layout):
    lan = Network("10.0.0.0/24")
    debian = Image.debian("bookworm")
    left = Machine(debian, links={"eth0": lan.at(".1")})


class Twins(Pair):
    right = Machine(links={"eth0": Pair.lan.at(".2")})


@pytest.mark.parametrize(
    ("owner", "name", "message"),
    [
        (Pair.left, "run", "Pair.left is the declaration, and has no 'run'; use the fixture:"),
        (Twins.left, "run", "Pair.left is the declaration, and has no 'run'; use the fixture:"),
        (Twins.right, "aio", "Twins.right is the declaration, and has no 'aio'; use the fixture:"),
        (
            Pair.left,
            "hostnam",
            "Pair.left is the declaration, and has no 'hostnam'; did you mean 'hostname'?",
        ),
        (Pair.lan, "capture", "network 'lan' is the declaration, and has no 'capture'"),
        (Pair.lan, "att", "network 'lan' is the declaration, and has no 'att'; did you mean 'at'?"),
        (Pair.debian, "build", "image 'debian-bookworm' is the declaration, and has no 'build'"),
        (Machine(), "run", "<Machine> is the declaration, and has no 'run'"),
    ],
)
def test_declaration_that_is_used_as_a_handle_says_so(owner: Any, name: str, message: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(owner, name)
    if message.endswith("fixture:"):
        message += f" {message.split(' ')[0].lower()}.{name}"
    assert str(caught.value) == message
    assert not hasattr(owner, name)


def test_declarations_are_copied_as_ever() -> None:
    assert copy.copy(Pair.debian) == Pair.debian
    assert copy.deepcopy(Pair.lan).name == "lan"


def test_fixture_with_another_argument_lists_those_that_it_has() -> None:
    with pytest.raises(
        LayoutError,
        match=r"^layout fixture: it has no argument 'scop'; declared at .*test_member.py:\d+;"
        r" try: scope=; there are name=, scope=$",
    ):
        Pair.fixture(scop="x")  # type: ignore[call-arg]
    with pytest.raises(LayoutError, match="it takes its arguments by name, and got 1 without one"):
        Pair.fixture("pair")  # type: ignore[call-arg]
