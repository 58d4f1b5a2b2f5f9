"""What is asked for in one turn of the loop goes to the fabric in one request."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from pytest_carthage.errors import FabricError
from pytest_carthage.fabric.spec import elsewhere
from pytest_carthage.placing.batches import Batches


class Fabric:
    """Notes what it is asked; makes all machines but those that it is told not to."""

    def __init__(self, *, failing: Mapping[str, str] | None = None) -> None:
        self.asked: list[tuple[str, list[str], object]] = []
        self.failing = dict(failing or {})
        self.silent: set[str] = set()
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self._heard = asyncio.Condition()

    async def heard(self, count: int) -> None:
        """Wait until so many requests have come."""
        async with self._heard:
            await self._heard.wait_for(lambda: len(self.asked) >= count)

    async def request(
        self, op: str, /, *, fds: Sequence[int] = (), **fields: object
    ) -> tuple[dict[str, Any], list[int]]:
        """Answer as the fabric does."""
        specs: Any = fields["machines"]
        names = [spec["name"] for spec in specs]
        async with self._heard:
            self.asked.append((op, names, fields["hosts"]))
            self._heard.notify_all()
        await self.goes_on.wait()
        made = {
            name: {"pid": len(name)}
            for name in names
            if name not in self.failing and name not in self.silent
        }
        failed = {name: self.failing[name] for name in names if name in self.failing}
        return {"made": made, "failed": failed}, []


class Broken(Fabric):
    """Is gone."""

    async def request(
        self, op: str, /, *, fds: Sequence[int] = (), **fields: object
    ) -> tuple[dict[str, Any], list[int]]:
        """Fail as a connection does whose other end has ended."""
        self.asked.append((op, [], None))
        raise FabricError("the fabric is gone")


@pytest.mark.asyncio
async def test_machines_of_one_turn_are_one_request_in_their_order() -> None:
    fabric = Fabric()
    batches = Batches(fabric, lambda: "hosts")
    answers = await asyncio.gather(*(batches.place(elsewhere(name)) for name in ("c", "a", "bb")))
    assert fabric.asked == [("machines", ["c", "a", "bb"], "hosts")]
    assert answers == [{"pid": 1}, {"pid": 1}, {"pid": 2}]


@pytest.mark.asyncio
async def test_machines_that_are_asked_for_later_are_a_request_of_their_own() -> None:
    fabric = Fabric()
    hosts = iter(["first", "second"])
    batches = Batches(fabric, lambda: next(hosts))
    await batches.place(elsewhere("a"))
    await batches.place(elsewhere("b"))
    assert fabric.asked == [("machines", ["a"], "first"), ("machines", ["b"], "second")]


@pytest.mark.asyncio
async def test_machine_that_is_asked_for_while_others_are_made_does_not_wait_for_them() -> None:
    fabric = Fabric()
    fabric.goes_on.clear()
    batches = Batches(fabric, lambda: "")
    first = asyncio.create_task(batches.place(elsewhere("a")))
    await fabric.heard(1)
    second = asyncio.create_task(batches.place(elsewhere("b")))
    await fabric.heard(2)
    assert [names for _, names, _ in fabric.asked] == [["a"], ["b"]]
    assert not first.done()
    fabric.goes_on.set()
    assert [await first, await second] == [{"pid": 1}, {"pid": 1}]


@pytest.mark.asyncio
async def test_hosts_are_those_of_when_the_request_goes_out() -> None:
    fabric = Fabric()
    known = ["before"]
    batches = Batches(fabric, lambda: known[-1])
    placing = asyncio.create_task(batches.place(elsewhere("a")))
    await asyncio.sleep(0)
    known.append("after")
    await placing
    assert fabric.asked == [("machines", ["a"], "after")]


@pytest.mark.asyncio
async def test_machine_that_failed_says_why_and_the_others_are_there() -> None:
    fabric = Fabric(failing={"bad": "bad: no memory is left"})
    batches = Batches(fabric, lambda: "")
    placing = [asyncio.create_task(batches.place(elsewhere(name))) for name in ("good", "bad")]
    assert await placing[0] == {"pid": 4}
    with pytest.raises(FabricError, match=r"^bad: no memory is left$"):
        await placing[1]


@pytest.mark.asyncio
async def test_machine_of_which_nothing_is_said_was_not_made() -> None:
    fabric = Fabric()
    fabric.silent.add("lost")
    with pytest.raises(FabricError, match=r"^not made$"):
        await Batches(fabric, lambda: "").place(elsewhere("lost"))


@pytest.mark.asyncio
async def test_failed_request_fails_all_of_its_machines_and_none_of_the_next() -> None:
    fabric = Broken()
    batches = Batches(fabric, lambda: "")
    failed = await asyncio.gather(
        *(batches.place(elsewhere(name)) for name in "ab"), return_exceptions=True
    )
    assert [str(one) for one in failed] == ["the fabric is gone"] * 2
    with pytest.raises(FabricError, match="gone"):
        await batches.place(elsewhere("c"))
    assert len(fabric.asked) == 2


@pytest.mark.asyncio
async def test_hosts_that_cannot_be_told_fail_whoever_waits() -> None:
    def hosts() -> str:
        raise LookupError("no such network")

    with pytest.raises(LookupError, match="no such network"):
        await Batches(Fabric(), hosts).place(elsewhere("a"))


@pytest.mark.parametrize("failing", [{}, {"a": "a: no"}])
@pytest.mark.asyncio
async def test_machine_whose_creation_was_cancelled_does_not_disturb_the_others(
    failing: dict[str, str],
) -> None:
    fabric = Fabric(failing=failing)
    fabric.goes_on.clear()
    batches = Batches(fabric, lambda: "")
    cancelled = asyncio.create_task(batches.place(elsewhere("a")))
    other = asyncio.create_task(batches.place(elsewhere("b")))
    await fabric.heard(1)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    fabric.goes_on.set()
    assert await other == {"pid": 1}
