"""Real environments of containers, and a Debian image that all of their tests share."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_carthage import Image
from pytest_carthage.images.builder import ensure
from pytest_carthage.planning.traits import Traits
from pytest_carthage.portal import Portal
from pytest_carthage.providers.netns import NetnsProvider
from pytest_carthage.providers.podman import PodmanProvider
from pytest_carthage.store.built import Built
from tests.support.layouts import Build, Factories, building, state

__all__ = ["Build", "state"]

#: a tar of it, for those who would have to build it anew
UNPACKED = "CARTHAGE_TEST_DEBIAN"

#: built once on a host, by whichever test needs it first
DEBIAN = (
    Image.rootfs(os.environ[UNPACKED], name="debian")
    if UNPACKED in os.environ
    else Image.debian("bookworm", name="debian").with_packages(
        "dbus", "iproute2", "iputils-ping", "procps", "python3-minimal", "systemd-sysv"
    )
)


class Podman(PodmanProvider):
    """Takes machines with images that choose no target."""

    traits = replace(PodmanProvider.traits, is_default=True)


class OverTheHost(NetnsProvider):
    """Takes no others than machines without an image."""

    traits = Traits(root="host", init=False, outside=False, is_default=True)


@pytest.fixture
def podman() -> PodmanProvider:
    """The provider, on a host that has what it needs."""
    provider = PodmanProvider()
    problems = provider.check()
    if problems:
        pytest.skip("; ".join(map(str, problems)))
    return provider


@pytest.fixture(scope="session")
def built() -> Built:
    """:data:`DEBIAN`, in this host's own store."""
    with contextlib.closing(Portal()) as portal:
        return portal.call(lambda: ensure(DEBIAN, portal=portal, note=lambda who, text: None))


@pytest.fixture
def debian(podman: PodmanProvider, built: Built) -> Built:
    """:data:`DEBIAN`, which is there."""
    return built


@pytest.fixture
def build(state: Path, debian: Built) -> Iterator[Build]:
    """Build a layout; what is still there at the end of the test is destroyed."""
    providers: Factories = {"netns": OverTheHost, "podman": Podman}
    with contextlib.closing(Portal()) as portal, building(portal, providers) as build:
        yield build
