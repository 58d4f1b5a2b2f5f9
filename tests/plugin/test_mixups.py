"""One face of a live object taken for the other: what is written to it is on the error."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pytest_carthage.bridge import Blocks, Opening, TwoFaced, opening, operation
from pytest_carthage.plugin.mixups import explain
from pytest_carthage.portal import Portal
from tests.plugin.conftest import Suite


class Door:
    async def aclose(self) -> None: ...


class Operations:
    @operation
    async def ring(self, times: int = 1) -> int:
        """Ring."""
        return times

    @opening
    def door(self) -> Opening[Door, Any]:
        """Open it."""

        async def begin() -> Door:
            return Door()

        return Opening(begin, lambda opened, portal: object())


class House(Blocks, Operations):
    def __init__(self, aio: AsyncHouse) -> None:
        self.aio = aio

    def floor(self, number: int) -> House:
        return self


class AsyncHouse(Operations, TwoFaced[House]):
    def __init__(self, portal: Portal) -> None:
        self.portal = portal


@pytest.fixture
def portal() -> Any:
    portal = Portal()
    yield portal
    portal.close()


@pytest.fixture
def house(portal: Portal) -> Any:
    return House(AsyncHouse(portal))


async def awaits(house: Any) -> None:
    await house.floor(1).ring(2)


async def enters(house: Any) -> None:
    async with house.door():
        pass


async def looks(house: Any) -> None:
    house.aio.ring().real  # noqa: B018


def waits(house: Any) -> None:
    with house.aio.door():
        pass


@pytest.mark.parametrize(
    ("function", "note"),
    [
        (
            awaits,
            "house.floor(1).ring(...) waits by itself; in async code:"
            " await house.floor(1).aio.ring(...)",
        ),
        (
            enters,
            "house.door(...) is for code that waits: with house.door(...), or"
            " async with house.aio.door(...)",
        ),
        (
            waits,
            "house.aio.door(...) is for async code: async with house.aio.door(...), or"
            " with house.door(...)",
        ),
        (looks, "house.aio.ring(...) is awaited: (await house.aio.ring(...))"),
    ],
)
def test_mixed_up_faces_are_noted_with_what_was_meant(house: Any, function: Any, note: str) -> None:
    with pytest.raises((TypeError, AttributeError)) as caught:
        asyncio.run(function(house)) if asyncio.iscoroutinefunction(function) else function(house)
    explain(caught.value)
    explain(caught.value)
    assert caught.value.__notes__ == [note]
    if asyncio.iscoroutine(coroutine := getattr(caught.value, "obj", None)):
        coroutine.close()


async def awaits_a_number() -> None:
    await len([])  # type: ignore[misc]


def test_error_that_has_nothing_to_do_with_it_has_no_note() -> None:
    with pytest.raises(TypeError) as caught:
        asyncio.run(awaits_a_number())
    explain(caught.value)
    assert not hasattr(caught.value, "__notes__")
    explain(TypeError("object Result can't be used in 'await' expression"))
    explain(ValueError("x"))


def test_source_that_is_not_there_is_no_reason_to_fail(house: Any) -> None:
    source = "async def f(house):\n    await house.ring()\n"
    names: dict[str, Any] = {}
    exec(compile(source, "/nowhere/at/all.py", "exec"), names)
    with pytest.raises(TypeError) as caught:
        asyncio.run(names["f"](house))
    explain(caught.value)
    assert not hasattr(caught.value, "__notes__")


def test_failed_test_shows_the_note(suite: Suite) -> None:
    suite.write(
        test_it="""
        import asyncio

        def test_it(pair):
            async def go():
                await pair.one.run("true")

            asyncio.run(go())
        """
    )
    result = suite.run()
    result.stdout.fnmatch_lines(
        ["E*pair.one.run(...) waits by itself; in async code: await pair.one.aio.run(...)"]
    )
