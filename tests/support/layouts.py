"""Layouts that tests build for themselves, with a run and a state folder of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

from pytest_carthage import Layout
from pytest_carthage.events import Recorder
from pytest_carthage.images.policy import Policy
from pytest_carthage.live.environment import AsyncLayout
from pytest_carthage.planning import make_plan
from pytest_carthage.portal import Portal
from pytest_carthage.provider import Provider
from pytest_carthage.providing import Providers
from pytest_carthage.state.run import Run, new_name
from pytest_carthage.testing import FakeRun

__all__ = ["Build", "Factories", "building", "end", "state"]

L = TypeVar("L", bound=Layout)

#: target to what makes its provider
Factories = Mapping[str, Callable[[], Provider]]


class Build(Protocol):
    """Builds a layout, with the targets of all tests of a folder unless others are given."""

    def __call__(
        self,
        layout: type[L],
        *,
        providers: Factories | None = None,
        policy: Policy = Policy(),  # noqa: B008  a value
    ) -> L: ...


def end(layout: Layout) -> None:
    """Destroy a live layout."""
    layout.aio.portal.call(layout.aio.close)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of this test's own."""
    folder = tmp_path / "state"
    monkeypatch.setenv("CARTHAGE_STATE", str(folder))
    return folder


@contextlib.contextmanager
def building(
    portal: Portal,
    providers: Factories,
    *,
    recorder: Recorder | None = None,
    pretended: Callable[[], FakeRun] | None = None,
) -> Iterator[Build]:
    """A block that builds layouts; what is still there at its end is destroyed.

    :param pretended: gives a run in memory for each; by default each has a real one.
    """
    environments: list[Layout] = []
    joined: list[Run | FakeRun] = []

    async def join() -> Run | FakeRun:
        run = pretended() if pretended is not None else await Run.join(new_name())
        joined.append(run)
        return run

    def make(
        layout: type[L],
        *,
        providers: Factories | None = None,
        policy: Policy = Policy(),  # noqa: B008  a value
    ) -> L:
        known = Providers(providers or common)
        plan = make_plan(layout, targets=known.traits)

        async def go() -> AsyncLayout:
            run = await join()
            return await AsyncLayout.build(
                plan,
                name=f"{run.name}-{layout.__name__.lower()}",
                run=run,
                providers=known,
                portal=portal,
                reporter=recorder or Recorder(),
                subscribers=layout.subscribers,
                policy=policy,
            )

        environment = layout(portal.call(go))
        environments.append(environment)
        return environment

    async def leave() -> None:
        for run in joined:
            run.close()

    common = providers
    try:
        yield make
        for environment in environments:
            end(environment)
    finally:
        portal.call(leave)
