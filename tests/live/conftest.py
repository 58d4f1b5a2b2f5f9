"""Real environments on the netns target, destroyed at the end of each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage.events import Recorder
from pytest_carthage.portal import Portal
from pytest_carthage.providers.netns import NetnsProvider
from tests.support.host import netns_lacks
from tests.support.layouts import Build, building, end, state

__all__ = ["Build", "end", "state"]


@pytest.fixture
def portal() -> Iterator[Portal]:
    portal = Portal()
    yield portal
    portal.close()


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def build(state: Path, portal: Portal, recorder: Recorder) -> Iterator[Build]:
    """Build a layout; what is still there at the end of the test is destroyed."""
    problems = netns_lacks()
    if problems:
        pytest.skip("; ".join(map(str, problems)))
    with building(portal, {"netns": NetnsProvider}, recorder=recorder) as build:
        yield build


@pytest.fixture
def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
