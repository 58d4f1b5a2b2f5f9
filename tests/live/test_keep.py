"""An environment is kept as a whole, or not at all."""

from __future__ import annotations

import asyncio

import pytest

from pytest_carthage import Layout, Machine
from pytest_carthage.errors import FabricError
from pytest_carthage.testing import live
from pytest_carthage.testing.live import FakeRun


class Alone(Layout):
    web = Machine()


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the supervisor was asked for."""
    done: list[str] = []

    async def keep(self: FakeRun, environment: str, *, for_s: float | None) -> None:
        done.append("keep")

    async def destroy(self: FakeRun, environment: str) -> None:
        done.append("destroy")

    monkeypatch.setattr(FakeRun, "keep", keep)
    monkeypatch.setattr(FakeRun, "destroy", destroy)
    return done


def test_environment_that_is_kept_is_not_destroyed(done: list[str]) -> None:
    with live(Alone) as alone:
        asyncio.run(alone.aio.keep(for_s=None))
    assert done == ["keep"]


def test_environment_that_cannot_be_left_in_good_order_is_not_kept(done: list[str]) -> None:
    async def fail() -> None:
        raise FabricError("a capture cannot be ended")

    with live(Alone) as alone:
        alone.aio._lifetime.push_async_callback(fail)
        with pytest.raises(FabricError, match="a capture cannot be ended"):
            asyncio.run(alone.aio.keep(for_s=None))
    assert done == ["keep", "destroy"]
