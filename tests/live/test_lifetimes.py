"""Machines that outlive the fabric: intent before creation, and every end, without a process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import CreationError, HostError, Layout, LayoutError, Machine
from pytest_carthage.errors import Problem
from pytest_carthage.events import Recorder
from pytest_carthage.live.environment import AsyncLayout
from pytest_carthage.planning import make_plan
from pytest_carthage.planning.plan import Plan, PlannedMachine
from pytest_carthage.planning.traits import Traits
from pytest_carthage.portal import Portal
from pytest_carthage.provider import Context, Identity
from pytest_carthage.providing import Providers
from pytest_carthage.testing import FakeMeans, FakeProvider, FakeRun, World

Hook = Callable[[str], Awaitable[None]]


async def nothing(name: str) -> None:
    pass


class Boards(FakeProvider):
    """A shelf of boards, each of which is written down before it is taken."""

    def __init__(self) -> None:
        traits = Traits(root="existing", init=True, outside=True)
        super().__init__(World(), kind="board", traits=traits)
        self.steps: list[str] = []
        #: boards that are taken
        self.taken: set[str] = set()
        self.problems: list[Problem] = []
        #: are called while a board is taken, and while it is given back
        self.while_creating: Hook = nothing
        self.while_destroying: Hook = nothing

    def check(self, plan: Plan | None = None) -> list[Problem]:
        return self.problems

    async def create(self, planned: PlannedMachine, context: Context) -> FakeMeans:
        self.steps.append(f"create {planned.name}")
        await context.intend(context.identity.with_detail(slot=f"slot of {planned.name}"))
        self.taken.add(planned.name)
        await self.while_creating(planned.name)
        return await super().create(planned, context)

    async def destroy(self, identity: Identity) -> None:
        self.steps.append(f"destroy {identity.name} {dict(identity.detail).get('slot')}")
        await self.while_destroying(identity.name)
        self.taken.discard(identity.name)
        await super().destroy(identity)


class Lab(Layout):
    target = "board"
    one = Machine()
    two = Machine(after="one")


class Bench:
    """A shelf, and a run whose journal is in memory."""

    def __init__(self, folder: Path, portal: Portal) -> None:
        self.portal = portal
        self.boards = Boards()
        self.run = FakeRun(folder, self.boards.world)
        self.providers = Providers({"board": lambda: self.boards})
        self.recorder = Recorder()

    def start(self, layout: type[Layout] = Lab, **more: Any) -> asyncio.Future[AsyncLayout]:
        """Begin to build a layout; on the portal's loop."""
        plan = make_plan(layout, targets=self.providers.traits)
        building = AsyncLayout.build(
            plan,
            name="lab",
            run=self.run,
            providers=self.providers,
            portal=self.portal,
            reporter=self.recorder,
            **more,
        )
        return asyncio.ensure_future(building)

    def build(self, layout: type[Layout] = Lab, **more: Any) -> AsyncLayout:
        async def go() -> AsyncLayout:
            return await self.start(layout, **more)

        return self.portal.call(go)

    @property
    def open(self) -> list[str]:
        """Names that the journal has as being there."""
        names = {identity.name: None for identity in self.run.intended}
        gone = [identity.name for identity in self.run.destroyed_identities]
        return [name for name in names if name not in gone]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with contextlib.closing(Portal()) as portal:
        yield Bench(tmp_path, portal)


def fails_for(*names: str) -> Hook:
    async def hook(name: str) -> None:
        if name in names:
            raise OSError(f"{name} burns")

    return hook


# as it should be


def test_machine_is_written_down_before_it_is_made_and_crossed_out_when_it_is_gone(
    bench: Bench,
) -> None:
    seen: list[list[str]] = []

    async def look(name: str) -> None:
        seen.append(bench.open)

    bench.boards.while_creating = look
    live = bench.build()
    assert seen == [["one"], ["one", "two"]]
    assert bench.run.intended[-1].detail == (("slot", "slot of two"),)
    bench.portal.call(live.close)
    bench.portal.call(live.close)
    assert bench.boards.steps == [
        "create one",
        "create two",
        "destroy two slot of two",
        "destroy one slot of one",
    ]
    assert (bench.open, bench.boards.taken) == ([], set())


def test_machine_that_is_added_and_removed_is_crossed_out_by_itself(bench: Bench) -> None:
    live = bench.build()

    async def go() -> None:
        await live.add(Machine(), name="three")
        assert bench.open == ["one", "two", "three"]
        await live.remove("three")

    bench.portal.call(go)
    assert bench.open == ["one", "two"]
    assert bench.boards.taken == {"one", "two"}
    bench.portal.call(live.close)


# what fails on the way up


def test_host_that_lacks_something_has_nothing_begun(bench: Bench) -> None:
    bench.boards.problems = [Problem(who="board", what="no shelf", remedy="buy one")]
    with pytest.raises(HostError, match="board: no shelf; try: buy one"):
        bench.build()
    assert (bench.boards.steps, bench.run.intended) == ([], [])
    assert not list(bench.run.folder.iterdir())


@pytest.mark.parametrize(("name", "made"), [("one", ["one"]), ("two", ["one", "two"])])
def test_failed_creation_gives_back_what_was_taken_and_tells_the_cause(
    bench: Bench, name: str, made: list[str]
) -> None:
    bench.boards.while_creating = fails_for(name)
    with pytest.raises(
        CreationError, match=f"machine '{name}' of layout 'Lab': target 'board' failed: {name} bur"
    ):
        bench.build()
    assert [step for step in bench.boards.steps if step[:6] == "create"] == [
        f"create {each}" for each in made
    ]
    assert (bench.open, bench.boards.taken) == ([], set())
    kinds = [(event.subject, event.kind) for event in bench.recorder.events]
    assert (name, "failed") in kinds
    assert kinds[-1] == ("", "failed")


def test_failure_is_looked_at_before_what_is_left_is_destroyed(bench: Bench) -> None:
    bench.boards.while_creating = fails_for("two")
    seen: list[set[str]] = []

    async def autopsy(live: AsyncLayout) -> None:
        seen.append(set(bench.boards.taken))
        raise RuntimeError("the doctor fainted")  # which is not the cause of anything

    with pytest.raises(CreationError, match="two burns"):
        bench.build(autopsy=autopsy)
    assert seen == [{"one", "two"}]
    assert bench.boards.taken == set()


@pytest.mark.parametrize("times", [1, 2])
def test_cancelled_creation_gives_back_what_was_taken(bench: Bench, times: int) -> None:
    async def go() -> None:
        begun = asyncio.Event()

        async def hang(name: str) -> None:
            if name == "two":
                begun.set()
                await asyncio.Event().wait()

        bench.boards.while_creating = hang
        building = bench.start()
        await begun.wait()
        for _ in range(times):
            building.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await building
        for _ in range(50):  # a second cancellation does not end the teardown
            await asyncio.sleep(0)

    bench.portal.call(go)
    assert (bench.open, bench.boards.taken) == ([], set())


# what fails on the way down


def test_board_that_cannot_be_given_back_stays_written_down_and_the_others_go(
    bench: Bench,
) -> None:
    live = bench.build()
    bench.boards.while_destroying = fails_for("two")
    bench.portal.call(live.close)
    assert bench.open == ["two"]  # for the supervisor, and for gc
    assert bench.boards.taken == {"two"}


def test_removal_that_fails_leaves_the_machine_where_it_is(bench: Bench) -> None:
    live = bench.build()
    bench.boards.while_destroying = fails_for("two")
    with pytest.raises(OSError, match="two burns"):
        bench.portal.call(live.remove, "two")
    assert "two" in live
    assert bench.open == ["one", "two"]
    bench.boards.while_destroying = nothing
    bench.portal.call(live.remove, "two")
    assert "two" not in live
    assert bench.open == ["one"]
    bench.portal.call(live.close)


def test_failed_addition_is_undone_and_may_be_tried_again(bench: Bench) -> None:
    live = bench.build()
    bench.boards.while_creating = fails_for("three")

    async def add() -> None:
        await live.add(Machine(), name="three")

    with pytest.raises(CreationError, match="three burns"):
        bench.portal.call(add)
    assert "three" not in live
    assert bench.open == ["one", "two"]
    bench.boards.while_creating = nothing
    bench.portal.call(add)
    assert bench.boards.taken == {"one", "two", "three"}
    bench.portal.call(live.close)
    assert bench.boards.taken == set()


def test_addition_that_cannot_be_undone_says_what_is_still_there_and_is_destroyed_first(
    bench: Bench,
) -> None:
    live = bench.build()
    bench.boards.while_creating = bench.boards.while_destroying = fails_for("three")

    async def add() -> None:
        await live.add(Machine(), name="three")

    with pytest.raises(CreationError, match="three burns") as caught:
        bench.portal.call(add)
    assert caught.value.__notes__ == ["what was begun of it is still there: three burns"]
    assert bench.boards.taken == {"one", "two", "three"}
    with pytest.raises(
        CreationError,
        match=r"machine 'three': board lab/three \(slot=slot of three\), which had this name "
        "before, cannot be destroyed: OSError: three burns",
    ):
        bench.portal.call(add)
    bench.boards.while_creating = bench.boards.while_destroying = nothing
    del bench.boards.steps[:]
    bench.portal.call(add)
    assert bench.boards.steps == ["destroy three slot of three", "create three"]
    bench.portal.call(live.close)


def test_two_additions_of_one_name_are_one_and_a_mistake(bench: Bench) -> None:
    live = bench.build()

    async def go() -> list[Any]:
        adding = [live.add(Machine(), name="three") for _ in range(2)]
        results: list[Any] = await asyncio.gather(*adding, return_exceptions=True)
        return results

    results = bench.portal.call(go)
    assert [type(result) for result in results if isinstance(result, Exception)] == [LayoutError]
    assert bench.boards.steps.count("create three") == 1
    bench.portal.call(live.close)


def test_many_additions_at_once_are_all_there(bench: Bench) -> None:
    live = bench.build()

    async def go() -> None:
        await asyncio.gather(*(live.add(Machine(), name=f"n{number}") for number in range(20)))
        assert len(live.handles()) == 22
        await asyncio.gather(*(live.remove(f"n{number}") for number in range(20)))

    bench.portal.call(go)
    assert bench.boards.taken == {"one", "two"}
    assert bench.open == ["one", "two"]
    bench.portal.call(live.close)


def test_machine_that_is_about_to_go_is_told_nothing_and_one_that_stays_is(bench: Bench) -> None:
    live = bench.build()

    async def remove_meanwhile() -> None:
        is_going, may_go = asyncio.Event(), asyncio.Event()

        async def slowly(name: str) -> None:
            bench.boards.world[name].power = "off"
            is_going.set()
            await may_go.wait()
            raise OSError("it stays after all")

        bench.boards.while_destroying = slowly
        removing = asyncio.ensure_future(live.remove("two"))
        await is_going.wait()
        await live.add(Machine(), name="three")  # of which "two" cannot be told
        may_go.set()
        with pytest.raises(OSError, match="it stays after all"):
            await removing

    bench.portal.call(remove_meanwhile)
    assert not live["two"].is_leaving
    bench.boards.while_destroying = nothing
    bench.portal.call(live.close)


# identities


@pytest.mark.parametrize("field", ["kind", "run", "environment"])
def test_identity_of_another_is_not_written(bench: Bench, field: str) -> None:
    class Confused(Boards):
        async def create(self, planned: PlannedMachine, context: Context) -> FakeMeans:
            other: dict[str, Any] = {field: "other"}
            await context.intend(replace(context.identity, name="x", **other))
            raise AssertionError("that was not refused")

    bench.boards = Confused()
    with pytest.raises(
        CreationError,
        match=rf"it intends .* with {field} 'other', which is .* here; try: context\.identity",
    ):
        bench.build()
    assert "x" not in {identity.name for identity in bench.run.intended}


def test_machine_that_the_journal_cannot_be_told_of_is_not_made(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(identity: Identity) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(bench.run, "intend", full)
    with pytest.raises(CreationError, match="disk full"):
        bench.build()
    assert not [step for step in bench.boards.steps if step[:6] == "create"]


def test_identity_keeps_what_was_known_and_adds_what_is() -> None:
    identity = Identity(kind="board", run="r", environment="lab", name="one")
    assert str(identity) == "board lab/one"
    slotted = identity.with_detail(slot="3", rack="b")
    moved = slotted.with_detail(slot="4")
    assert str(moved) == "board lab/one (slot=4, rack=b)"
    assert identity.detail == ()
