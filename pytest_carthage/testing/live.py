"""Layouts in memory: live in milliseconds, with no process beside the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from pytest_carthage.errors import FabricError
from pytest_carthage.events import Recorder
from pytest_carthage.live.environment import AsyncLayout
from pytest_carthage.live.layout import Layout
from pytest_carthage.model.stage import ATTRIBUTE, Stage
from pytest_carthage.planning import make_plan
from pytest_carthage.planning.targets import Targets, installed
from pytest_carthage.portal import Portal
from pytest_carthage.provider import Identity, Provider
from pytest_carthage.providing import Providers
from pytest_carthage.testing.commands import Answer
from pytest_carthage.testing.lending import lend
from pytest_carthage.testing.provider import TRAITS, FakeProvider
from pytest_carthage.testing.world import FakeFabric, World

__all__ = ["FakeRun", "fakes", "fixture", "live", "run_stage"]

L = TypeVar("L", bound=Layout)

#: name of an environment to what is pretended of it, while it lives
_worlds: dict[str, World] = {}


class FakeRun:
    """A run without a supervisor: it ends with the process, and nothing of it is on disk."""

    def __init__(self, folder: Path, world: World) -> None:
        self.name = f"fake{secrets.token_hex(3)}"
        self.id = secrets.token_hex(6)
        self.folder = folder
        #: everything that was written to the journal
        self.intended: list[Identity] = []
        self.destroyed_identities: list[Identity] = []
        self.fabric = FakeFabric(world)

    async def environment(
        self, name: str, description: Mapping[str, object], *, unprivileged: bool
    ) -> tuple[Path, FakeFabric]:
        """Begin an environment: its folder, and its fabric."""
        folder = self.folder / name
        (folder / "logs").mkdir(parents=True)
        return folder, self.fabric

    async def deputy(
        self,
        environment: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        control: int,
    ) -> None:
        """No process is started.

        :raises FabricError: always.
        """
        raise FabricError(
            f"fake run: {argv[0]!r} is not started, since nothing here is beside the test's own "
            "process; try: the layout's own fixture"
        )

    async def intend(self, identity: Identity) -> None:
        """Remember what is about to exist."""
        self.intended.append(identity)

    async def destroyed(self, identity: Identity) -> None:
        """Remember that something is gone."""
        self.destroyed_identities.append(identity)

    async def describe(self, environment: str, description: Mapping[str, object]) -> None:
        """Nobody asks for it."""

    async def keep(self, environment: str, *, for_s: float | None) -> None:
        """Nothing can be kept.

        :raises ValueError: always.
        """
        raise ValueError("a fake environment ends with its process, and cannot be kept")

    async def destroy(self, environment: str) -> None:
        """There is nothing but memory."""

    def close(self) -> None:
        """Leave."""


@contextlib.contextmanager
def live(
    layout: type[L],
    *,
    answers: Mapping[str, Answer] | None = None,
    files: Mapping[str, Mapping[str, str | bytes]] | None = None,
) -> Iterator[L]:
    """A live layout whose machines are in memory, for as long as the block runs.

    It is planned as always, so that its mistakes are found; then each machine, whatever its
    target, is a :class:`FakeMachine`: no image is built, no supervisor and no fabric started, and
    no privilege needed. Tasks of roles are done, and conditions waited for.

    :param answers: what commands give: pattern of the command's text (fnmatch(3)) to text,
        status, :class:`Output`, or a function of the :class:`Call`.
    :param files: name of a machine to its files, path to content.
    :raises LayoutError: the layout cannot be planned.
    :raises CreationError: a task or a condition failed, as for an answer that it lacks.
    """
    world = World(answers=answers, files=files)
    targets = _targets_of(layout)
    plan = lend(make_plan(layout, targets=targets))
    portal = Portal()
    with tempfile.TemporaryDirectory(prefix="carthage-fake-") as folder:
        run = FakeRun(Path(folder), world)

        async def build() -> AsyncLayout:
            return await AsyncLayout.build(
                plan,
                name=f"{run.name}-{layout.__name__.lower()}",
                run=run,
                providers=Providers(_fakes_of(targets, world)),
                portal=portal,
                reporter=Recorder(),
                subscribers=layout.subscribers,
            )

        try:
            environment = portal.call(build)
            _worlds[environment.name] = world
            try:
                yield layout(environment)
            finally:
                del _worlds[environment.name]
                portal.call(environment.close)
        finally:
            portal.close()
            world.close()


def _targets_of(layout: type[Layout]) -> Targets:
    """What is installed, and what else a layout names."""
    named = {layout.target, *(machine.target for machine in layout.machines().values())}
    return {**{name: TRAITS for name in named if name is not None}, **installed()}


def _fakes_of(targets: Targets, world: World) -> dict[str, Callable[[], Provider]]:
    """A fake provider for each target."""

    def make(kind: str) -> Callable[[], Provider]:
        return lambda: FakeProvider(world, kind=kind, traits=targets[kind])

    return {kind: make(kind) for kind in targets}


def fakes(shop: Layout) -> World:
    """The fake machines behind a live layout of :func:`live`, by name, and its faults.

    :raises LookupError: the layout is real.
    """
    world = _worlds.get(shop.name)
    if world is None:
        raise LookupError(f"layout {shop!r} was not made by testing.live()")
    return world


def fixture(
    layout: type[Layout],
    *,
    name: str | None = None,
    answers: Mapping[str, Answer] | None = None,
    files: Mapping[str, Mapping[str, str | bytes]] | None = None,
) -> Any:
    """A pytest fixture that yields :func:`live`, anew for each test."""
    import pytest

    def fake_layout() -> Iterator[Layout]:
        with live(layout, answers=answers, files=files) as shop:
            yield shop

    fake_layout.__doc__ = f"{layout.__name__}, in memory."
    return pytest.fixture(name=name)(fake_layout)


def run_stage(stage: Any, /, **arguments: Any) -> Any:
    """Run a stage by itself; returns what it returns.

    :param arguments: what its parameters are, in place of fixtures.
    :raises TypeError: it is no stage.
    """
    made: Stage | None = getattr(stage, ATTRIBUTE, None)
    if made is None:
        raise TypeError(f"{stage!r} is no stage; try: a function with @stage")
    if not made.is_async:
        return made.function(**arguments)
    function = cast("Callable[..., Awaitable[Any]]", made.function)

    async def go() -> Any:
        return await function(**arguments)

    return asyncio.run(go())
