"""Hosts of a rack, and what builds layouts of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage.events import Recorder
from pytest_carthage.portal import Portal
from tests.support.layouts import Build, building
from tests.support.rack import Rack, rack
from tests.support.reserving import PROVIDERS


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    """A host that stands through all tests of a module."""
    with rack(tmp_path_factory.mktemp("rack") / "db1") as made:
        yield made


@pytest.fixture
def own_host(tmp_path: Path) -> Iterator[Rack]:
    """A host that a test may spoil."""
    with rack(tmp_path / "db1") as made:
        yield made


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    """Takes in what is told of the layouts."""
    return Recorder()


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory, recorder: Recorder) -> Iterator[Build]:
    """Builds layouts; what is still there at the end is destroyed."""
    with pytest.MonkeyPatch.context() as patch, contextlib.closing(Portal()) as portal:
        patch.setenv("CARTHAGE_STATE", str(tmp_path_factory.mktemp("state")))
        with building(portal, PROVIDERS, recorder=recorder) as made:
            yield made
