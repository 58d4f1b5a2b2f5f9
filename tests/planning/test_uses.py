"""What an author's function will ask of machines: what is certain, and what is left alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import Layout, LayoutError, Machine, Role, UnsupportedError, machine_task
from pytest_carthage.handles.capability import CAPABILITIES, Capability
from pytest_carthage.live.machines.machine import MachineHandle
from pytest_carthage.planning import make_plan
from pytest_carthage.planning.refusal import refusal_of
from pytest_carthage.planning.traits import Traits
from pytest_carthage.planning.uses import OF_LAYOUT, OF_MACHINE, uses_of_layout

HERE = Path(__file__)


def calls(function: Callable[..., Any]) -> list[tuple[str, str, Capability]]:
    """Machine, call and capability of each use that is found in a function of a layout."""
    found = uses_of_layout(function, "shop", {"web", "db"})
    return [(use.machine, use.call, use.capability) for use in found]


def freezes(shop: Any) -> None:
    shop.web.freeze()


async def freezes_awaited(shop: Any) -> None:
    async with shop.web.aio.freeze():
        await shop.db.aio.run("true")


def freezes_by_name(shop: Any) -> None:
    web = shop["web"]
    shop = shop.aio
    web.link("lan").down()
    with web.freeze() as frozen:
        frozen.heal()


def partitions(shop: Any) -> None:
    db = shop.db
    shop.partition(shop.web, {db, "nobody"})
    shop.gate("web", to="export.example:443")


def asserts(shop: Any) -> None:
    assert shop.web.run("true").ok
    lines = [line for line in shop.db.run("psql").lines if shop.web.observe()]
    assert not lines


FREEZE = ("web", "web.freeze()", "freeze")


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (freezes, [FREEZE]),
        (freezes_awaited, [FREEZE, ("db", "db.run()", "run")]),
        (freezes_by_name, [FREEZE]),
        (
            partitions,
            [
                ("web", "partition()", "links"),
                ("db", "partition()", "links"),
                ("web", "gate()", "links"),
            ],
        ),
        (asserts, [("web", "web.run()", "run")]),
    ],
)
def test_call_that_is_reached_in_any_case_is_found(
    function: Callable[..., Any], expected: list[tuple[str, str, Capability]]
) -> None:
    assert calls(function) == expected


def test_use_tells_the_line_of_the_call() -> None:
    (use,) = uses_of_layout(freezes, "shop", {"web"})
    assert Path(use.place.file) == HERE
    assert HERE.read_text().splitlines()[use.place.line - 1] == "    shop.web.freeze()"


# what is not certain


def in_a_branch(shop: Any, yes: bool) -> None:
    if yes:
        shop.web.freeze()


def behind_a_return(shop: Any, yes: bool) -> None:
    if yes:
        return
    shop.web.freeze()


def in_a_try(shop: Any) -> None:
    try:
        shop.web.freeze()
    except Exception:
        shop.db.freeze()


def where_the_refusal_is_waited_for(shop: Any) -> None:
    with contextlib.suppress(UnsupportedError):
        shop.web.freeze()


def where_it_may_be_raised(shop: Any) -> None:
    with contextlib.suppress(Exception):
        shop.web.freeze()
    shop.web.freeze()


def where_it_can(shop: Any) -> None:
    assert shop.web.can("freeze")
    shop.web.freeze()


def behind_a_helper(shop: Any) -> None:
    skip_unless_it_can(shop)
    shop.web.freeze()


def behind_a_helper_with_a_value(shop: Any) -> None:
    ready = skip_unless_it_can(shop.web)
    shop.web.freeze(ready)


def behind_a_skip(shop: Any) -> None:
    skipping: Any = pytest
    skipping.skip("not today")
    shop.web.freeze()


def behind_a_call_of_whatever(shop: Any) -> None:
    calls(len)  # it may skip: nobody knows
    shop.web.freeze()


def behind_an_import(shop: Any) -> None:
    module = pytest.importorskip("nothing")
    shop.web.freeze(module)


def in_a_loop(shop: Any) -> None:
    for _ in shop.web.links:
        shop.web.freeze()


def in_a_short_cut(shop: Any, yes: bool) -> None:
    _ = yes and shop.web.freeze()
    _ = shop.web.freeze() if yes else None
    _ = [shop.web.freeze() for _ in range(0)]


def in_a_function_of_its_own(shop: Any) -> Any:
    def later() -> Any:
        return shop.web.freeze()

    return lambda: (later(), shop.web.freeze())


async def in_time(shop: Any) -> None:
    async with asyncio.timeout(1):
        await shop.web.aio.freeze()


def on_another(shop: Any, other: Any) -> None:
    shop = other
    shop.web.freeze()


def on_what_a_block_gives(shop: Any) -> None:
    with shop.web.link("lan").down() as shop:
        shop.web.freeze()


def on_a_new_one(shop: Any) -> None:
    shop.remove("web")
    shop.add(Machine(), name="web")
    shop.web.freeze()


def on_what_is_added(shop: Any) -> None:
    shop.till.freeze()


def skip_unless_it_can(thing: Any) -> Any:
    return thing


@pytest.mark.parametrize(
    "function",
    [
        *(in_a_branch, behind_a_return, in_a_try, where_the_refusal_is_waited_for),
        *(where_it_may_be_raised, where_it_can, behind_a_helper, behind_a_skip, in_a_loop),
        *(behind_a_call_of_whatever,),
        *(behind_a_helper_with_a_value, behind_an_import, in_a_short_cut, in_time),
        *(in_a_function_of_its_own, on_another, on_what_a_block_gives, on_a_new_one),
        *(on_what_is_added, eval("lambda shop: shop.web.freeze()"), len),
    ],
    ids=lambda function: function.__name__,
)
def test_call_that_may_not_be_reached_is_left_alone(function: Callable[..., Any]) -> None:
    assert calls(function) == []


# what is made of it


def traits(*lacks: Capability, outside: bool = False) -> Traits:
    return Traits(root="existing", init=True, outside=outside, lacks=frozenset(lacks))


class Shop(Layout):
    target = "still"
    web = Machine()
    db = Machine(on="able")


def test_refusal_names_the_machine_the_line_and_the_target_that_can() -> None:
    plan = make_plan(Shop, targets={"still": traits("freeze"), "able": traits()})
    error = refusal_of(plan, uses_of_layout(freezes, "shop", plan.machines))
    line = freezes.__code__.co_firstlineno + 1
    assert str(error) == (
        f"machine 'web' of layout 'Shop': target 'still' cannot freeze machines; web.freeze() is "
        f'used in {__file__}:{line}; try: on="able"'
    )


@pytest.mark.parametrize(
    ("of_still", "is_refused"),
    [
        (traits(), False),
        (traits("run", "files"), False),
        (traits("freeze"), True),
        (traits(outside=True), False),
    ],
)
def test_call_is_refused_only_where_no_machine_of_the_target_can_answer(
    of_still: Traits, is_refused: bool
) -> None:
    plan = make_plan(Shop, targets={"still": of_still, "able": traits()})
    error = refusal_of(plan, uses_of_layout(freezes, "shop", plan.machines))
    assert (error is not None) == is_refused


def connects(shop: Any) -> None:
    shop.web.connect(80)


@pytest.mark.parametrize(
    ("lacks", "is_refused"),
    [(("socket",), False), (("connect",), False), (("connect", "socket"), True)],
)
def test_who_gives_sockets_connects(lacks: tuple[Capability, ...], is_refused: bool) -> None:
    plan = make_plan(Shop, targets={"still": traits(*lacks), "able": traits()})
    error = refusal_of(plan, uses_of_layout(connects, "shop", plan.machines))
    assert (error is not None) == is_refused


@dataclass(frozen=True)
class Sleeper(Role):
    """Freezes itself."""

    seconds: int = 1

    @machine_task("fall asleep")
    async def sleep(self, machine: Any) -> None:
        async with machine.freeze():
            await asyncio.sleep(self.seconds)


def test_task_of_a_role_is_refused_when_the_plan_is_made() -> None:
    class Sleepy(Layout):
        target = "still"
        web = Machine(roles=[Sleeper()])

    line = Sleeper.sleep.place.line + 2
    with pytest.raises(
        LayoutError,
        match=r"machine 'web' of layout 'Sleepy': target 'still' cannot freeze machines, and task "
        rf"'fall asleep' of role Sleeper calls machine.freeze\(\) in {__file__}:{line}; "
        r'declared at .*; try: on="able"',
    ):
        make_plan(Sleepy, targets={"still": traits("freeze"), "able": traits()})
    make_plan(Sleepy, targets={"still": traits("socket"), "able": traits()})


def test_operations_are_those_of_handles_and_capabilities_have_words() -> None:
    assert [name for name in OF_MACHINE if not hasattr(MachineHandle, name)] == []
    assert [name for name in OF_LAYOUT if not hasattr(Layout, name)] == []
    assert {*OF_MACHINE.values(), *OF_LAYOUT.values()} <= set(CAPABILITIES)
