"""One small layout on each target: two machines, on one network where the target has networks."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import pytest

from pytest_carthage import Layout, Machine, Network, On, testing
from pytest_carthage.handles.capability import CAPABILITIES, Capability
from pytest_carthage.live.machines.machine import MachineHandle
from pytest_carthage.portal import Portal
from pytest_carthage.provider import Provider
from pytest_carthage.providers.libvirt import LibvirtProvider
from pytest_carthage.providers.netns import NetnsProvider
from pytest_carthage.providers.podman import PodmanProvider
from pytest_carthage.providers.ssh import SshProvider
from pytest_carthage.testing import FakeProvider, FakeRun, World
from tests.docs.cell import CellProvider
from tests.providers.conftest import DEBIAN, built, debian, podman
from tests.support.layouts import Build, building
from tests.support.rack import Rack, rack

__all__ = ["built", "debian", "podman"]

_SERVER = """\
import socket, sys
with socket.create_server(("0.0.0.0", int(sys.argv[1]))) as listener:
    while True:
        near, _ = listener.accept()
        with near:
            near.sendall(b"hello")
"""


@dataclass(kw_only=True)
class Target:
    """A target under test, and what is alive on it."""

    kind: str
    provider: Provider
    portal: Portal
    folder: Path
    world: World | None = None
    #: builds a layout; it ends with the module, unless it is closed before
    build: Build = field(init=False)
    #: whether its machines have an image, and what they boot
    has_image: bool = False
    init: Literal["systemd"] | None = None
    #: gives what a machine of a name tells the target; None: nothing
    settings: Callable[[str], On] | None = None

    @cached_property
    def pair(self) -> Layout:
        """Two machines, shared by the tests of a module, if any of them wants to see one."""
        return self.build(self.layout("a", "b"))

    @property
    def a(self) -> MachineHandle:
        return self.pair["a"]

    @property
    def b(self) -> MachineHandle:
        return self.pair["b"]

    def needs(self, *capabilities: Capability) -> None:
        """Skip a test of what the target cannot do, and says so."""
        for capability in capabilities:
            if not self.a.can(capability):
                pytest.skip(f"target {self.kind!r} cannot {CAPABILITIES[capability]}")

    def on(self, name: str) -> str | On:
        """What a machine of this name tells the target."""
        return self.kind if self.settings is None else self.settings(name)

    def layout(self, *names: str) -> type[Layout]:
        lan = Network("10.0.0.0/24")
        image = DEBIAN if self.has_image else None
        if image is not None and self.provider.traits.has_own_kernel:
            image = image.with_packages("python3")  # of which the agent needs more than the least
        has_links = self.provider.traits.can("links")
        machines = {
            name: Machine(
                image,
                on=self.on(name),
                links={"eth0": lan.at("auto")} if has_links else {},
                env={"SHOP": "corner"},
                init=self.init,
                ready_timeout_s=_READY_S.get(self.kind, 60.0),
            )
            for name in names
        }
        return Layout.of("Pair", {"lan": lan, **machines})

    @contextlib.contextmanager
    def building(self) -> Iterator[Build]:
        """A block that builds layouts on this target, in memory where its machines are there."""

        def pretend() -> FakeRun:
            assert self.world is not None
            return FakeRun(self.folder / secrets.token_hex(3), self.world)

        pretended = pretend if self.world is not None else None
        with building(
            self.portal, {self.kind: lambda: self.provider}, pretended=pretended
        ) as build:
            yield build

    def serve(self, machine: MachineHandle, port: int) -> None:
        """Have something listen in a machine, which says hello and hangs up."""
        if self.world is not None:

            def hello(far: socket.socket) -> None:
                far.sendall(b"hello")

            self.world[machine.name].serve(port, hello)
            return
        machine.write_text("/tmp/serve.py", _SERVER)
        machine.run(f"setsid python3 /tmp/serve.py {port} > /dev/null 2>&1 < /dev/null &")


def _netns(request: pytest.FixtureRequest) -> tuple[Provider, World | None]:
    return NetnsProvider(), None


def _podman(request: pytest.FixtureRequest) -> tuple[Provider, World | None]:
    return PodmanProvider(), None


def _fake(request: pytest.FixtureRequest) -> tuple[Provider, World | None]:
    world = testing.World()
    return FakeProvider(world), world


def _ssh(request: pytest.FixtureRequest) -> tuple[Provider, World | None]:
    return SshProvider(), None


def _cell(request: pytest.FixtureRequest) -> tuple[Provider, World | None]:
    return CellProvider(), None


#: runs programs, and says of itself that it is none of those that an agent needs
_OLD_PYTHON = """\
#!/bin/sh
[ "$1" != -c ] || exit 1
exec /usr/bin/python3 "$@"
"""


def _libvirt(request: pytest.FixtureRequest) -> tuple[Provider, World | None]:
    return LibvirtProvider(), None


Make = Callable[[pytest.FixtureRequest], tuple[Provider, "World | None"]]
TARGETS: dict[str, Make] = {
    "netns": _netns,
    "netns-image": _netns,
    "netns-systemd": _netns,
    "podman": _podman,
    "fake": _fake,
    "cell": _cell,
    "ssh": _ssh,
    "ssh-commands": _ssh,
    "libvirt": _libvirt,
}
#: an emulated machine needs minutes where the host has no more time for it
_SLOW = {"libvirt": pytest.mark.timeout(900)}
_READY_S = {"libvirt": 400.0}


def _marks(kind: str) -> list[pytest.MarkDecorator]:
    slow = [_SLOW[kind]] if kind in _SLOW else []
    return [] if kind == "fake" else [pytest.mark.real, *slow]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What switches machines boots them often."""
    for item in items:
        if "[libvirt" in item.name and item.path.name in ("test_power.py", "test_restart.py"):
            item.add_marker("emulated")


@pytest.fixture(
    scope="module",
    params=[pytest.param(kind, marks=_marks(kind)) for kind in TARGETS],
)
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    """Each target in turn, with a pair of machines."""
    kind, _, variant = request.param.partition("-")
    has_image = variant in ("image", "systemd") or kind in ("podman", "libvirt")
    provider, world = TARGETS[request.param](request)
    if problems := provider.check():
        pytest.skip("; ".join(map(str, problems)))
    if kind == "ssh" and os.geteuid() != 0:
        pytest.skip("a rack of our own needs root")
    if has_image:
        request.getfixturevalue("built")
    with (
        tempfile.TemporaryDirectory(prefix="contract-") as folder,
        pytest.MonkeyPatch.context() as patch,
        contextlib.closing(Portal()) as portal,
        contextlib.ExitStack() as stack,
    ):
        patch.setenv("CARTHAGE_STATE", str(Path(folder, "state")))
        made = Target(
            kind=kind,
            provider=provider,
            portal=portal,
            folder=Path(folder),
            world=world,
            has_image=has_image,
            init="systemd" if variant == "systemd" else None,
        )
        if kind == "ssh":
            made.settings = stack.enter_context(_racks(Path(folder), has_agent=not variant))
        with made.building() as made.build:
            yield made


@contextlib.contextmanager
def _racks(folder: Path, *, has_agent: bool) -> Iterator[Callable[[str], On]]:
    """A block that gives each name a host of its own, which exists until its end.

    :param has_agent: their Python can be what an agent needs.
    """
    with contextlib.ExitStack() as stack:
        racks: dict[str, Rack] = {}

        def settings(name: str) -> On:
            if name not in racks:
                racks[name] = stack.enter_context(rack(folder / f"rack-{name}", name=name))
                if not has_agent:
                    racks[name].write("/usr/local/sbin/python3", _OLD_PYTHON)
            return racks[name].settings()

        yield settings


@pytest.fixture(autouse=True)
def _on(target: Target) -> Iterator[None]:
    """No test leaves a machine off."""
    yield
    if "pair" in vars(target):
        for machine in target.pair:
            machine.start()
