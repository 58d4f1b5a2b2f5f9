"""A layout with a machine of a third party's target, in a process that can be killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_carthage.provider import Identity
from pytest_carthage.state import journal
from pytest_carthage.state.entries import from_entry
from tests.support import hut
from tests.support.leftovers import assert_nothing_left, of_this_test, sleep_s, world
from tests.support.unprivileged import REPOSITORY

__all__ = ["Huts", "huts"]

_LIMIT_S = 20.0

VICTIM = """
    import sys
    from hut import reached
    from pytest_carthage import Layout, Machine, Network
    from pytest_carthage.live.environment import AsyncLayout
    from pytest_carthage.planning import make_plan
    from pytest_carthage.portal import Portal
    from pytest_carthage.provider import load_providers
    from pytest_carthage.providing import Providers
    from pytest_carthage.state.run import Run

    class Hamlet(Layout):
        lan = Network("10.0.0.0/24")
        near = Machine(links={"eth0": lan.at(".1")})
        far = Machine(on="hut")

    portal = Portal()
    intend, destroyed = Run.intend, Run.destroyed

    async def intend_slowly(self, identity):
        reached("unknown")
        await intend(self, identity)
        reached("intended")

    async def destroyed_slowly(self, identity):
        reached("gone")
        await destroyed(self, identity)

    Run.intend, Run.destroyed = intend_slowly, destroyed_slowly

    async def build():
        run = await Run.join("crash")
        return await AsyncLayout.build(
            make_plan(Hamlet), name="crash-hamlet", run=run,
            providers=Providers(load_providers()), portal=portal)

    hamlet = Hamlet(portal.call(build))
    assert hamlet.far.run("echo up").stdout == "up\\n"
    reached("built")
    if "keep" in sys.argv:
        portal.call(lambda: hamlet.aio.keep(for_s=float(sys.argv[2])))
    else:
        portal.call(hamlet.aio.close)
    reached("closed")
"""


@dataclass(frozen=True, slots=True)
class Huts:
    """The registry of the third party's target, and processes that use it."""

    registry: Path
    state: Path
    script: Path
    started: list[subprocess.Popen[str]]

    def build(self, *arguments: str, stop: str = "") -> subprocess.Popen[str]:
        """Start a process that builds a layout and closes it, and stops at a step."""
        if stop:
            self.stop_at(stop)
        process = subprocess.Popen(
            [sys.executable, str(self.script), *arguments],
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def stop_at(self, step: str) -> None:
        """Have whoever comes to a step next stop there."""
        (self.registry / f"stop-{step}").touch()
        (self.registry / f"at-{step}").unlink(missing_ok=True)

    def stick(self) -> None:
        """Have nothing be destroyed from now on."""
        (self.registry / "stuck").touch()

    def unstick(self) -> None:
        """Have everything be destroyed again."""
        (self.registry / "stuck").unlink()

    def await_step(self, step: str, process: subprocess.Popen[str] | None = None) -> None:
        path = self.registry / f"at-{step}"
        deadline = time.monotonic() + 60
        while not path.exists():
            if process is not None and process.poll() not in (None, 0):
                assert process.stderr is not None
                pytest.fail(f"ended before {step!r}: {process.stderr.read()}")
            assert time.monotonic() < deadline, f"never at {step!r}"
            time.sleep(0.005)

    @property
    def journal(self) -> Path:
        return self.state / "runs/crash/journal.jsonl"

    def outstanding(self) -> list[Identity]:
        """Huts that the journal knows of."""
        entries = journal.outstanding(journal.read(self.journal))
        return [from_entry(entry) for entry in entries if entry["kind"] == "hut"]

    def destroyed(self) -> list[str]:
        """What the provider was asked to destroy, and what was known of it."""
        return (self.registry / "destroyed.log").read_text().splitlines()

    def assert_nothing_left(self) -> None:
        deadline = time.monotonic() + _LIMIT_S
        while list(self.registry.glob("*.json")) or world(self.state)["sleepers"]:
            assert time.monotonic() < deadline, list(self.registry.iterdir())
            time.sleep(0.05)
        assert_nothing_left(self.state)

    def supervisors(self) -> list[int]:
        processes = of_this_test(self.state)
        return [pid for pid, name in processes.items() if name == "carthage-super"]

    def kill_supervisor(self) -> None:
        pids = self.supervisors()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self.await_end_of(pids)

    def await_end_of_supervisor(self) -> None:
        locks = [path.read_text() for path in self.state.glob("runs/*/lock")]
        self.await_end_of([int(pid) for pid in locks if pid])

    def await_end_of(self, pids: list[int]) -> None:
        """Wait until processes are zombies: their locks are free, which they still are not when
        their memory is gone.
        """
        deadline = time.monotonic() + _LIMIT_S
        while not all(hut.has_ended(pid) for pid in pids):
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def huts(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Huts]:
    site = tmp_path / "site"
    info = site / "hut-1.dist-info"
    info.mkdir(parents=True)
    shutil.copy(hut.__file__, site / "hut.py")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hut\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[pytest_carthage.providers]\nhut = hut:HutProvider\n")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), str(REPOSITORY)]))
    monkeypatch.setenv("HUT", str(tmp_path / "registry"))
    monkeypatch.setenv("HUT_SLEEP", sleep_s(state))
    (tmp_path / "registry").mkdir()
    script = tmp_path / "victim.py"
    script.write_text(textwrap.dedent(VICTIM))
    huts = Huts(tmp_path / "registry", state, script, [])
    yield huts
    for process in huts.started:
        process.kill()
        process.communicate()
    for record in hut.records():
        with contextlib.suppress(ProcessLookupError):
            os.kill(record["pid"], signal.SIGKILL)
