"""Sessions of pytest whose processes are killed: one suite for each target."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tests.endurance.inventory import Inventory
from tests.endurance.processes import Family
from tests.support.shelf import tiny_system
from tests.support.unprivileged import REPOSITORY

__all__ = ["TARGETS", "Session", "prepare"]

_POLL_S = 0.05

_HEAD = """
import os
from pytest_carthage import File, Image, Layout, Machine, Network, Role, stage
from pytest_carthage.model.task import filesystem_task
"""

_TAIL = """
small = Small.fixture()

@stage
async def imported(small):
    await small.left.aio.write_text("/tmp/imported", "yes")
"""

_MACHINES = {
    "netns": """
class Small(Layout):
    lan = Network("10.0.0.0/24")
    left = Machine(links={"eth0": lan.at(".1")})
    right = Machine(links={"eth0": lan.at(".2")})
""",
    "image": """
class Settled(Role):
    @filesystem_task
    async def settle(self, files):
        await files.run("cat /etc/settings > /etc/settled")

class Small(Layout):
    lan = Network("10.0.0.0/24")
    tiny = Image.rootfs("system", name="tiny").with_(
        File("settings", "/etc/settings"), Settled())
    left = Machine(tiny, links={"eth0": lan.at(".1")})
    right = Machine(tiny, links={"eth0": lan.at(".2")})
""",
    "podman": """
class Small(Layout):
    lan = Network("10.0.0.0/24")
    tiny = Image.rootfs("system", name="tiny").with_(File("settings", "/etc/settings"))
    left = Machine(tiny, on="podman", links={"eth0": lan.at(".1")})
    right = Machine(tiny, on="podman", links={"eth0": lan.at(".2")})
""",
}

#: what machines are realised by
TARGETS = tuple(_MACHINES)

_TESTS = """
import pytest

@pytest.mark.parametrize("number", range(4))
def test_use(small, imported, number):
    small.left.write_text(f"/tmp/{number}", "text")
    assert small.left.read_text(f"/tmp/{number}") == "text"
    assert small.right.run("cat", input="words").stdout == "words"
    small.right.run("sleep 0.05")
"""


def prepare(folder: Path, target: str) -> Path:
    """Write the suite of a target; sessions of it share its images. Returns its folder."""
    suite = folder / target
    suite.mkdir(parents=True)
    (suite / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\n")
    (suite / "conftest.py").write_text(_HEAD + _MACHINES[target] + _TAIL)
    (suite / "test_it.py").write_text(_TESTS)
    if target != "netns":
        tiny_system(suite / "system", ("sh", "cat", "hostname", "sleep", "mkdir", "rm"))
        (suite / "system/tmp").mkdir()
        (suite / "settings").write_text("first\n")
    return suite


@dataclass(slots=True, kw_only=True)
class Session:
    """One session of pytest, and what belongs to it."""

    process: subprocess.Popen[bytes]
    family: Family
    inventory: Inventory
    output: Path
    began: float = field(default_factory=time.monotonic)

    @classmethod
    def start(cls, suite: Path, folder: Path, *, workers: int, images: Path | None) -> Session:
        """Start one.

        :param folder: of its own, for its state and temporary files.
        :param images: store of images that others share; None: it builds them anew.
        """
        name = f"k{secrets.token_hex(4)}"
        state, temporary, output = folder / "state", folder / "tmp", folder / "output"
        temporary.mkdir(parents=True)
        command = [sys.executable, "-m", "pytest", "-ra", f"--carthage-name={name}"]
        command += ["-p", "pytest_carthage.plugin"]
        command += ["-p", "xdist.plugin", f"-n{workers}"] if workers else []
        with output.open("wb") as file:
            process = _start(
                command,
                suite,
                {
                    # each plugin of others costs time at every start
                    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                    "CARTHAGE_STATE": str(state),
                    "CARTHAGE_IMAGES": str(images or folder / "images"),
                    "TMPDIR": str(temporary),
                },
                file,
            )
        family = Family(f"CARTHAGE_STATE={state}".encode(), process.pid)
        return cls(
            process=process,
            family=family,
            inventory=Inventory(family, folder, name),
            output=output,
        )

    def await_end(self, limit_s: float) -> int | None:
        """Exit status of pytest; None: it has not ended in time, and was killed."""
        deadline = time.monotonic() + limit_s
        while (status := self.process.poll()) is None:
            self.family.look()  # who is born meanwhile
            if time.monotonic() > deadline:
                self._abort()
                return None
            time.sleep(_POLL_S)
        return status

    def _abort(self) -> None:
        self.process.send_signal(signal.SIGABRT)  # faulthandler tells where it is
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def end_all(self) -> None:
        """Kill whatever is left of it."""
        for process in self.family.look():
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    @property
    def text(self) -> str:
        """What it printed."""
        return self.output.read_text(errors="replace")


def _start(
    command: list[str], folder: Path, environment: dict[str, str], output: IO[bytes]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
