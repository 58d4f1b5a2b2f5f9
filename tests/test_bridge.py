"""One declaration, two faces: callers that wait, and coroutines of any event loop."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Iterator

import pytest

from pytest_carthage.bridge import Blocks, Opening, TwoFaced, block, opening, operation
from pytest_carthage.portal import Portal


class Door:
    """What can be opened and closed."""

    def __init__(self) -> None:
        self.closed = 0

    async def aclose(self) -> None:
        self.closed += 1


class LampOperations:
    """What a lamp does."""

    @operation
    async def brightness(self, factor: int = 1) -> int:
        """How bright it is, in lumen."""
        return 40 * factor

    @operation
    async def other(self) -> Lamp:
        """Another lamp."""
        return Lamp(self.portal)  # type: ignore[attr-defined]

    @operation
    async def fail(self) -> None:
        """Break."""
        raise ValueError("burnt out")

    @opening
    def door(self) -> Opening[Door, str]:
        """Open it."""

        async def begin() -> Door:
            return Door()

        return Opening(begin, lambda opened, portal: "a door of callers that wait")

    @block
    @contextlib.asynccontextmanager
    async def lit(self) -> AsyncIterator[asyncio.AbstractEventLoop]:
        """Lit as long as the block."""
        self.events.append("on")  # type: ignore[attr-defined]
        try:
            yield asyncio.get_running_loop()
        except ValueError as error:
            self.events.append(str(error))  # type: ignore[attr-defined]
            raise
        finally:
            self.events.append("off")  # type: ignore[attr-defined]


class BlockingLamp(Blocks, LampOperations):
    """For callers that wait."""

    def __init__(self, aio: Lamp) -> None:
        self.aio = aio


class Lamp(LampOperations, TwoFaced[BlockingLamp]):
    """For coroutines."""

    def __init__(self, portal: Portal) -> None:
        self.portal = portal
        self.events: list[str] = []

    def __repr__(self) -> str:
        return "<lamp>"

    @property
    def sync(self) -> BlockingLamp:
        return BlockingLamp(self)


@pytest.fixture
def portal() -> Iterator[Portal]:
    portal = Portal()
    yield portal
    portal.close()


@pytest.fixture
def lamp(portal: Portal) -> BlockingLamp:
    return Lamp(portal).sync


def test_operation_waits_or_is_awaited(lamp: BlockingLamp) -> None:
    assert lamp.brightness(factor=2) == 80
    assert asyncio.run(lamp.aio.brightness(3)) == 120
    with pytest.raises(ValueError, match=r"^burnt out$"):
        lamp.fail()
    with pytest.raises(ValueError, match=r"^burnt out$"):
        asyncio.run(lamp.aio.fail())


def test_what_has_two_faces_comes_in_the_face_of_its_caller(lamp: BlockingLamp) -> None:
    assert isinstance(lamp.other(), BlockingLamp)
    assert isinstance(asyncio.run(lamp.aio.other()), Lamp)


def test_opening_waits_or_is_awaited(lamp: BlockingLamp) -> None:
    async def awaited() -> Door:
        door = await lamp.aio.door()
        async with lamp.aio.door() as other:
            assert other is not door
            assert not other.closed
        assert other.closed
        return door  # type: ignore[no-any-return]

    assert lamp.door() == "a door of callers that wait"
    assert not asyncio.run(awaited()).closed


def test_block_runs_on_the_loop_of_the_portal(lamp: BlockingLamp, portal: Portal) -> None:
    async def awaited() -> None:
        async with lamp.aio.lit() as loop:
            assert loop is portal.loop
            assert loop is not asyncio.get_running_loop()

    with lamp.lit() as loop:
        assert loop is portal.loop
        assert lamp.aio.events == ["on"]
    asyncio.run(awaited())
    with pytest.raises(ValueError, match="dropped"), lamp.lit():
        raise ValueError("dropped")
    assert lamp.aio.events == ["on", "off", "on", "off", "on", "dropped", "off"]


@pytest.mark.parametrize("name", ["brightness", "door", "lit"])
def test_each_face_shows_its_name_its_object_and_its_words(lamp: BlockingLamp, name: str) -> None:
    # what pytest prints of a failed assertion, and help() of an object
    declared = getattr(LampOperations, name)
    for face in (lamp, lamp.aio):
        bound = getattr(face, name)
        assert repr(bound) == f"<bound method LampOperations.{name} of <lamp>>"
        assert bound.__doc__ == declared.__doc__
        assert "self" not in inspect.signature(bound).parameters
    assert inspect.signature(lamp.brightness) == inspect.signature(lamp.aio.brightness)


@pytest.mark.parametrize("name", ["brightness", "door", "lit"])
def test_class_shows_its_own_face(name: str) -> None:
    # what help() and the reference show
    waiting = getattr(BlockingLamp, name)
    assert not inspect.iscoroutinefunction(waiting)
    assert inspect.signature(waiting) == inspect.signature(getattr(Lamp, name))
    assert waiting.__doc__ == getattr(LampOperations, name).__doc__


def test_member_that_is_no_operation_is_that_of_the_object(lamp: BlockingLamp) -> None:
    assert lamp.events is lamp.aio.events  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="'Lamp' object has no attribute 'brigthness'"):
        lamp.brigthness()  # type: ignore[attr-defined]
