"""What a host is only expected to lack is told, and keeps nothing from being built."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import pytest

from pytest_carthage import HostError, Layout, Machine
from pytest_carthage.errors import Problem
from pytest_carthage.events import Recorder
from pytest_carthage.planning.plan import Plan
from pytest_carthage.portal import Portal
from pytest_carthage.testing import FakeProvider, FakeRun, World
from tests.support.layouts import building


class Crowded(FakeProvider):
    """Its host may be too small, and with three machines is."""

    def __init__(self) -> None:
        super().__init__(kind="crowd")

    def check(self, plan: Plan | None = None) -> Sequence[Problem]:
        is_guess = plan is None or len(plan.machines) < 3
        return [Problem(who="crowd", what="few hooks", remedy="more", is_guess=is_guess)]


class Pair(Layout):
    target = "crowd"
    one = Machine()
    two = Machine()


class Three(Pair):
    three = Machine()


def test_guess_is_told_and_certainty_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    recorder = Recorder()
    with (
        contextlib.closing(Portal()) as portal,
        building(
            portal,
            {"crowd": Crowded},
            recorder=recorder,
            pretended=lambda: FakeRun(tmp_path_factory.mktemp("run"), World()),
        ) as build,
    ):
        pair = build(Pair)
        notes = [event.text for event in recorder.events if event.kind == "note"]
        assert notes == ["this host may lack something: crowd: few hooks; try: more"]
        with pytest.raises(HostError, match="this host lacks:\n  crowd: few hooks"):
            pair.add(Machine(), name="third")
        with pytest.raises(HostError, match="few hooks"):
            build(Three)
