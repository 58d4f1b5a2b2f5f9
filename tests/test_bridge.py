"""One declaration, two faces: callers that wait, and coroutines of any event loop."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.bridge import (
    Blocks,
    Opening,
    TwoFaced,
    author_folder,
    block,
    opening,
    operation,
)
from pytest_carthage.errors import CallError
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
    async def place(self) -> Path:
        """Where it stands."""
        return author_folder()

    @operation
    async def place_by_another(self) -> Path:
        """Where it stands, by an operation that calls another one."""
        place: Path = await asyncio.create_task(self.place())
        return place

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
    with pytest.raises(AttributeError, match=r"^<lamp> has no 'brigthness'; did you mean 'brightn"):
        lamp.brigthness()  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"^<lamp> has no 'zzz'$"):
        lamp.aio.zzz()
    assert not hasattr(lamp, "zzz")


def test_property_that_fails_says_why(portal: Portal) -> None:
    class Broken(Lamp):
        @property
        def colour(self) -> str:
            return self.portal.colour  # type: ignore[attr-defined, no-any-return]

    with pytest.raises(AttributeError, match="'Portal' object has no attribute 'colour'"):
        _ = BlockingLamp(Broken(portal)).colour  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="'Portal' object has no attribute 'colour'"):
        _ = Broken(portal).colour


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda lamp: lamp.brightness(facto=2),
            "<lamp>.brightness(): it has no argument 'facto'; try: factor=; there are factor",
        ),
        (
            lambda lamp: lamp.brightness(1, 2),
            "<lamp>.brightness(): it takes at most 1 without a name, and got 2; try: there are"
            " factor",
        ),
        (
            lambda lamp: lamp.door(key=1),
            "<lamp>.door(): it has no argument 'key'; try: no arguments: it takes none",
        ),
        (
            lambda lamp: lamp.lit(5).__enter__(),
            "<lamp>.lit(): it takes its arguments by name, and got 1 without one; try: no"
            " arguments: it takes none",
        ),
        (
            lambda lamp: asyncio.run(lamp.aio.brightness(facto=2)),
            "<lamp>.brightness(): it has no argument 'facto'; try: factor=; there are factor",
        ),
        (
            lambda lamp: lamp.aio.door(key=1),
            "<lamp>.door(): it has no argument 'key'; try: no arguments: it takes none",
        ),
    ],
)
def test_call_that_does_not_fit_lists_what_there_is(
    lamp: BlockingLamp, call: Callable[[Any], Any], message: str
) -> None:
    with pytest.raises(CallError) as caught:
        call(lamp)
    assert str(caught.value) == message
    assert isinstance(caught.value, TypeError)


def test_type_error_of_the_body_is_its_own(lamp: BlockingLamp) -> None:
    with pytest.raises(TypeError, match="unsupported operand") as caught:
        lamp.brightness([].append)  # type: ignore[arg-type]
    assert not isinstance(caught.value, CallError)


HERE = Path(__file__).parent


def test_operation_knows_the_folder_of_the_code_that_calls_it(lamp: BlockingLamp) -> None:
    async def awaited() -> list[Path]:
        # a task has a stack of its own, which does not lead here
        return [
            await lamp.aio.place(),
            *await asyncio.gather(lamp.aio.place(), lamp.aio.place_by_another()),
        ]

    assert lamp.place() == HERE
    assert lamp.place_by_another() == HERE
    assert asyncio.run(awaited()) == [HERE] * 3
    assert lamp.aio.portal.call(awaited) == [HERE] * 3, "also on the loop of the portal"
    assert author_folder() == Path(), "it is over with the operation"


def test_code_in_no_file_has_the_working_folder(lamp: BlockingLamp) -> None:
    scope: dict[str, Any] = {"lamp": lamp}
    exec(compile("place = lamp.place()", "<stdin>", "exec"), scope)
    assert scope["place"] == Path()
    with ThreadPoolExecutor() as pool:
        assert pool.submit(lamp.place).result() == Path()


def test_folder_is_that_of_the_innermost_code(lamp: BlockingLamp, tmp_path: Path) -> None:
    file = tmp_path / "product.py"
    scope: dict[str, Any] = {"lamp": lamp, "__name__": "product"}
    exec(compile("def place(): return lamp.place()", str(file), "exec"), scope)
    assert scope["place"]() == tmp_path
