"""What a machine is asked for and cannot do: refused by name, whoever answers for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import Layout, Machine, Network, UnsupportedError, testing
from pytest_carthage.events import Recorder
from pytest_carthage.handles.capability import CAPABILITIES, OPERATIONS, Capability
from pytest_carthage.live.machines.abilities import Asked
from pytest_carthage.planning.traits import Traits
from pytest_carthage.planning.uses import OF_LAYOUT, OF_MACHINE
from pytest_carthage.portal import Portal
from tests.support.layouts import building

ABLE = Traits(root="existing", init=True, outside=False)


class Shop(Layout):
    target = "fake"
    lan = Network("10.0.0.0/24")
    web = Machine()
    db = Machine()


class Bench:
    """Builds :class:`Shop` in memory, on machines that lack something."""

    def __init__(self, folder: Path, portal: Portal, stack: contextlib.ExitStack) -> None:
        self._folder = folder
        self._portal = portal
        self._stack = stack
        self.recorder = Recorder()

    def shop(self, *, traits: Traits = ABLE, lacks: Sequence[str] = ()) -> Shop:
        """
        :param lacks: operations that the endpoints do not have.
        """
        world = testing.World()
        self._stack.callback(world.close)
        provider = testing.FakeProvider(world, traits=traits, lacks=lacks)
        other = testing.FakeProvider(world, kind="able")
        build = self._stack.enter_context(
            building(
                self._portal,
                {"fake": lambda: provider, "able": lambda: other},
                recorder=self.recorder,
                pretended=lambda: testing.FakeRun(self._folder, world),
            )
        )
        return build(Shop)

    def ask(self, shop: Shop, op: str, **fields: Any) -> dict[str, Any]:
        """Ask the endpoint of ``web``."""

        async def go() -> dict[str, Any]:
            return (await shop.web.aio.channel.request(op, **fields))[0]

        return self._portal.call(go)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with contextlib.closing(Portal()) as portal, contextlib.ExitStack() as stack:
        yield Bench(tmp_path, portal, stack)


@pytest.mark.parametrize(
    ("op", "capability"),
    [(op, capability) for capability, ops in OPERATIONS.items() for op in sorted(ops)],
)
def test_operation_that_an_endpoint_lacks_is_refused_by_what_it_is_for(
    bench: Bench, op: str, capability: Capability
) -> None:
    shop = bench.shop(lacks=[op])
    with pytest.raises(
        UnsupportedError,
        match=rf"machine 'web' of layout 'Shop': target 'fake' cannot {CAPABILITIES[capability]}; "
        f"operation '{op}' asks for that; try: ",
    ):
        bench.ask(shop, op)


def test_operation_that_is_no_capability_is_refused_by_name(bench: Bench) -> None:
    shop = bench.shop(lacks=["lookup", "ping"])
    with pytest.raises(
        UnsupportedError,
        match="machine 'web' of layout 'Shop': who answers for it on target 'fake' has no "
        r"operation 'lookup' \(it has chmod, chown, .*\); try: a target whose machines answer",
    ):
        bench.ask(shop, "lookup", host="db")
    assert bench.ask(bench.shop(), "lookup", host="10.0.0.1")["address"] == "10.0.0.1"


def test_endpoint_that_says_nothing_of_itself_is_asked(bench: Bench) -> None:
    class Silent:
        async def request(
            self, op: str, /, *, fds: Sequence[int] = (), **fields: object
        ) -> tuple[dict[str, Any], list[int]]:
            return {"op": op, "fds": len(fds), **fields}, []

    shop = bench.shop()
    asked = Asked(Silent(), shop.plan.machines["web"], lambda: shop.plan)

    async def go() -> tuple[dict[str, Any], list[int]]:
        return await asked.request("anything", fds=(1, 2), more=3)

    assert shop.aio.portal.call(go) == ({"op": "anything", "fds": 2, "more": 3}, [])


CALLS: dict[str, Callable[[Any, Path], Any]] = {
    "connect": lambda web, path: web.connect(80),
    "console": lambda web, path: web.console(),
    "crash": lambda web, path: web.crash(),
    "freeze": lambda web, path: web.freeze(),
    "get": lambda web, path: web.get("/etc/hosts", path / "hosts"),
    "logs": lambda web, path: web.logs(),
    "observe": lambda web, path: web.observe(),
    "plug_disk": lambda web, path: web.plug_disk("data", size_mib=8),
    "ping": lambda web, path: web.ping("10.0.0.1"),
    "put": lambda web, path: web.put(path / "here", "/srv/here"),
    "read_text": lambda web, path: web.read_text("/etc/hosts"),
    "reboot": lambda web, path: web.reboot(),
    "reset": lambda web, path: web.reset(),
    "restart": lambda web, path: web.restart(),
    "revert": lambda web, path: web.revert("before"),
    "run": lambda web, path: web.run("true"),
    "screen_text": lambda web, path: web.screen_text(),
    "screenshot": lambda web, path: web.screenshot(),
    "send_keys": lambda web, path: web.send_keys("x"),
    "snapshot": lambda web, path: web.snapshot("before"),
    "socket": lambda web, path: web.socket(),
    "stop": lambda web, path: web.stop(),
    "unplug_disk": lambda web, path: web.unplug_disk("data"),
    "write_text": lambda web, path: web.write_text("/srv/here", "x"),
}


@pytest.mark.parametrize("name", list(OF_MACHINE))
def test_call_that_a_plan_rules_out_is_refused_when_it_is_made_all_the_same(
    bench: Bench, name: str, tmp_path: Path
) -> None:
    """What planning tells of a source text before is what happens at run time."""
    (tmp_path / "here").touch()
    capability = OF_MACHINE[name]
    lacks = OPERATIONS.get(capability, frozenset())
    traits = Traits(
        root="existing", init=True, outside=False, lacks=frozenset({capability, "socket"})
    )
    shop = bench.shop(traits=traits, lacks=sorted(lacks))
    with pytest.raises(UnsupportedError, match=f"target 'fake' cannot {CAPABILITIES[capability]}"):
        CALLS[name](shop.web, tmp_path)


@pytest.mark.parametrize("name", list(OF_LAYOUT))
def test_call_on_a_layout_is_refused_with_its_line_before_anything_is_asked(
    bench: Bench, name: str
) -> None:
    outside = Traits(root="existing", init=True, outside=True)
    shop = bench.shop(traits=outside)
    begin: Callable[[], Any] = {
        "gate": lambda: shop.gate(shop.web, to="localhost:1"),
        "partition": lambda: shop.partition("web", "db"),
    }[name]
    line = begin.__code__.co_firstlineno
    with pytest.raises(
        UnsupportedError,
        match="machine 'web' of layout 'Shop': target 'fake' cannot put machines on networks of a "
        rf'layout; {name}\(\) is used in {__file__}:{line}; try: on="able"',
    ):
        begin()
    assert list(shop.gates) == []


def test_datagrams_are_refused_where_an_endpoint_carries_streams(bench: Bench) -> None:
    shop = bench.shop()
    with pytest.raises(
        UnsupportedError,
        match="target 'fake' cannot give sockets of a machine's network; "
        r"web.connect\(protocol='udp'\) asks for that",
    ):
        shop.web.connect(53, protocol="udp")


def test_machine_without_files_is_not_told_of_names_and_somebody_says_so(bench: Bench) -> None:
    shop = bench.shop(lacks=["open"])
    shop.add(Machine(), name="till")
    notes = {event.subject: event.text for event in bench.recorder.events if event.kind == "note"}
    assert notes["web"] == "not told of names: it has no files"
    assert "till" in shop
