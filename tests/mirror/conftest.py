"""A live layout with a package mirror, for all tests of a file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from pytest_carthage.events import Recorder
from pytest_carthage.portal import Portal
from pytest_carthage.providers.netns import NetnsProvider
from tests.providers.conftest import built
from tests.support.host import netns_lacks
from tests.support.layouts import Build, building

__all__ = ["built"]


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory, recorder: Recorder) -> Iterator[Build]:
    """Build a layout; it is destroyed after the tests of a file."""
    if problems := netns_lacks():
        pytest.skip("; ".join(map(str, problems)))
    with pytest.MonkeyPatch.context() as patch, contextlib.closing(Portal()) as portal:
        patch.setenv("CARTHAGE_STATE", str(tmp_path_factory.mktemp("state")))
        with building(portal, {"netns": NetnsProvider}, recorder=recorder) as build:
            yield build
