"""Two state roots and one name: as two workspaces of CI that call their sessions the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_carthage import Layout, Limits, Machine, Network
from pytest_carthage.live.environment import AsyncLayout
from pytest_carthage.planning import make_plan
from pytest_carthage.portal import Portal
from pytest_carthage.providers.netns import NetnsProvider
from pytest_carthage.providing import Providers
from pytest_carthage.state import cgroups
from tests.live.conftest import end
from tests.state.conftest import Join
from tests.support.leftovers import assert_nothing_left


class Limited(Layout):
    lan = Network("10.0.0.0/24")
    one = Machine(links={"eth0": lan.at(".1")}, limits=Limits(memory_mib=256))


@pytest.fixture
def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("limits need root")


def test_end_of_one_leaves_the_machines_of_the_other(
    state: Path, portal: Portal, join: Join, monkeypatch: pytest.MonkeyPatch, as_root: None
) -> None:
    environments, runs = [], []
    for root in ("one", "two"):
        monkeypatch.setenv("CARTHAGE_STATE", str(state / root))
        runs.append(join("ci"))
        built = portal.call(
            AsyncLayout.build,
            make_plan(Limited),
            name="ci-limited",
            run=runs[-1],
            providers=Providers({"netns": NetnsProvider}),
            portal=portal,
        )
        environments.append(Limited(built))
    one, two = environments
    try:
        end(one)
        assert two["one"].run("echo alive").stdout == "alive\n"
    finally:
        end(two)
    groups = [path for root in cgroups.roots() for path in Path(root).glob("*ci-limited*")]
    assert groups == []
    for run in runs:
        portal.loop.call_soon_threadsafe(run.close)
    for root in ("one", "two"):
        assert_nothing_left(state / root)
