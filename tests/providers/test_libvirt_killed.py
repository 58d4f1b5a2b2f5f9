"""What SIGKILL does to virtual machines in each phase, of whoever has a part in them.

That of pytest itself, and of those who serve a machine that runs, is in ``test_libvirt_faults``.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage import Vm
from pytest_carthage.errors import CarthageError, CreationError
from pytest_carthage.providers.libvirt import recipes
from tests.providers.test_libvirt_faults import (
    GUEST,
    Empty,
    Lab,
    assert_none,
    build,
    empty,
    emulators,
    extra,
    lab,
    ports,
    processes,
    state,
)

__all__ = ["GUEST", "assert_none", "build", "empty", "lab", "state"]

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

ACTORS = ("libvirtd", "deputy", "qemu")


def pid_of(actor: str, state: Path, name: str) -> int | None:
    """The process of an actor; None: there is none yet."""
    found = {
        "libvirtd": lambda: processes(state, "libvirtd"),
        "qemu": lambda: [pid for pid in emulators(state) if f"guest={name}," in _words(pid)],
        "deputy": lambda: [
            pid for pid in processes(state, "python") if f"/vm/{name}/agent.sock" in _words(pid)
        ],
    }[actor]()
    return found[0] if found else None


def _words(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


class Killing:
    """Kills an actor as soon as it is there, a moment later; ``with`` waits until that is done."""

    def __init__(self, actor: str, state: Path, name: str, delay_s: float) -> None:
        self.actor, self.state, self.name, self.delay_s = actor, state, name, delay_s
        self._thread = threading.Thread(target=self._kill)
        self.killed: int | None = None

    def _kill(self) -> None:
        deadline = time.monotonic() + 120
        while (pid := pid_of(self.actor, self.state, self.name)) is None:
            if time.monotonic() > deadline:
                return
            time.sleep(0.02)
        time.sleep(self.delay_s)  # the moment is the parameter
        os.kill(pid, signal.SIGKILL)
        self.killed = pid

    def __enter__(self) -> Killing:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._thread.join()
        assert self.killed is not None, f"nobody was {self.actor}"


@pytest.fixture
def nothing_more(state: Path, empty: Empty) -> Iterator[None]:
    """There is nothing more after a test than before it."""
    before = set(emulators(state)), ports(empty), len(processes(state, "libvirtd"))
    yield
    after = set(emulators(state)), ports(empty), len(processes(state, "libvirtd"))
    assert after[:2] == before[:2]
    assert after[2] <= max(before[2], 1)


@pytest.mark.emulated
def test_emulator_that_is_killed_while_its_machine_boots_is_told_with_the_consoles_end(
    empty: Empty, state: Path
) -> None:
    before = ports(empty)
    began = time.monotonic()
    with Killing("qemu", state, "booting", 2.0), pytest.raises(CreationError) as caught:
        empty.add(extra(Vm()), name="booting")
    assert time.monotonic() - began < 120
    text = str(caught.value)
    assert text.startswith("machine 'booting' of layout 'Empty': it went off while it started")
    assert "; console: " in text
    assert ports(empty) == before
    assert not list(state.glob("runs/*/envs/*/vm/booting"))


@pytest.mark.emulated
@pytest.mark.parametrize("actor", ["libvirtd", "deputy"])
def test_who_is_killed_while_a_machine_boots_has_a_successor(
    nothing_more: None, empty: Empty, state: Path, actor: str
) -> None:
    with Killing(actor, state, "booting", 1.0):
        machine = empty.add(extra(Vm()), name="booting")
    assert machine.run("echo here").stdout == "here\n"
    empty.remove("booting")


@pytest.mark.emulated
@pytest.mark.parametrize("actor", ACTORS)
def test_who_is_killed_while_a_machine_is_cloned_is_told_or_the_machine_comes(
    nothing_more: None,
    empty: Empty,
    state: Path,
    actor: str,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipes, "why_not", lambda recipe: "")
        empty.add(extra(Vm()), name="first")  # the memory of which others are clones
        empty.remove("first")
        with Killing(actor, state, "clone", 0.2):
            machine = empty.add(extra(Vm()), name="clone")  # it boots where it cannot be a clone
        assert machine.run("echo here", timeout_s=60).stdout == "here\n"
    empty.remove("clone")


@pytest.mark.emulated
@pytest.mark.parametrize("actor", ACTORS)
def test_who_is_killed_while_a_snapshot_is_taken_is_told_and_the_machine_can_be_used(
    lab: Lab, state: Path, actor: str
) -> None:
    environment = Path(lab.aio.logs).parent
    failures: list[str] = []
    with Killing(actor, environment, "vm", 0.05):
        try:
            lab.vm.snapshot(actor)
        except CarthageError as error:
            failures.append(str(error))
    assert all(text.startswith("machine 'vm' of layout 'Lab': ") for text in failures)
    if actor == "qemu":
        _until_it_is_off(lab)
        lab.vm.start()
    assert lab.vm.run("echo here", timeout_s=60).stdout == "here\n"
    lab.vm.snapshot(f"after-{actor}")
    assert f"after-{actor}" in lab.vm.snapshots()


@pytest.mark.emulated
@pytest.mark.parametrize("actor", ACTORS)
def test_who_is_killed_while_a_machine_stops_does_not_keep_it_from_that(
    lab: Lab, state: Path, actor: str
) -> None:
    environment = Path(lab.aio.logs).parent
    with Killing(actor, environment, "vm", 0.3):
        lab.vm.stop(timeout_s=20)
    assert not emulators(environment)
    lab.vm.start()
    assert lab.vm.run("echo here", timeout_s=60).stdout == "here\n"


def _until_it_is_off(lab: Lab) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            lab.vm.run("true", timeout_s=60)
        except CarthageError as error:
            if "its emulator ended" in str(error):
                return
        assert time.monotonic() < deadline
