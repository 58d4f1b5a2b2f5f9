"""Suites that pytest runs inside a test, each with a state folder of its own."""

from __future__ import annotations

import glob
import json
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# imported here, so that each inner session finds them loaded
import pytest_carthage.plugin.choice
import pytest_carthage.plugin.claim
import pytest_carthage.plugin.cycles
import pytest_carthage.plugin.session
from pytest_carthage.state import places
from pytest_carthage.state.listing import Listed, destroy_environment, list_environments
from tests.support.host import netns_lacks

#: plugins of others that these tests have no use for; each costs time at every start
_OTHERS = (
    "asyncio",
    "hypothesispytest",
    "platformdirs",
    "pytest11.testinfra",
    "rerunfailures",
    "testinfra",
    "time_machine",
    "timeout",
    "typeguard",
)

PAIR = '''
from pytest_carthage import Layout, Machine, Network, stage


class Pair(Layout):
    """Two machines."""

    lan = Network("10.0.0.0/24")
    one = Machine(links={"eth0": lan.at(".1")})
    two = Machine(links={"eth0": lan.at(".2")})


pair = Pair.fixture()
'''


class Suite:
    """A folder with tests, and what became of them."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path

    def write(self, **files: str) -> None:
        """Write modules; ``conftest`` gets the layout ``Pair`` and its fixture ahead."""
        for name, text in files.items():
            text = textwrap.dedent(text)
            if name == "conftest":
                text = PAIR + text
            self.pytester.path.joinpath(f"{name}.py").write_text(text)

    def run(self, *arguments: str, xdist: bool = False) -> pytest.RunResult:
        """Run them in this process."""
        return self.pytester.runpytest_inprocess(*self.options(xdist=xdist), *arguments)

    def run_apart(self, *arguments: str, xdist: bool = False) -> pytest.RunResult:
        """Run them in a process of their own."""
        return self.pytester.runpytest_subprocess(
            *self.options(xdist=xdist), *arguments, timeout=60
        )

    def options(self, *, xdist: bool = False) -> list[str]:
        """Options that make a start cheap, and the result comparable."""
        left_out = [*_OTHERS, *([] if xdist else ["xdist"])]
        return ["-ra", "--color=no", *(f"-pno:{name}" for name in left_out)]

    def bundle(self, test: str) -> Path:
        """Folder of a failed test's bundle, in pytest's cache."""
        (found,) = self.path.joinpath(".pytest_cache/d/carthage").glob(f"*/{glob.escape(test)}")
        return found

    def summary(self, test: str) -> Any:
        """What ``summary.json`` of a bundle holds."""
        return json.loads((self.bundle(test) / "summary.json").read_text())

    @property
    def alive(self) -> list[Listed]:
        """Environments that live now."""
        return list_environments()


def wait_until_clean(timeout_s: float = 10.0) -> list[str]:
    """Wait until no run is left in the state folder; returns what is left then."""
    runs = places.state_root() / "runs"
    deadline = time.monotonic() + timeout_s
    while True:
        left = [path.name for path in runs.iterdir() if path.is_dir()] if runs.exists() else []
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.02)


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[Suite]:
    """A suite with ``Pair``; whatever it leaves alive is destroyed, and must go then."""
    problems = netns_lacks()
    if problems:
        pytest.skip("; ".join(map(str, problems)))
    monkeypatch.setenv("CARTHAGE_STATE", str(pytester.path / "state"))
    made = Suite(pytester)
    made.write(conftest="")
    yield made
    for environment in made.alive:
        # a test that undoes all patches would have everybody's destroyed
        assert environment.folder.is_relative_to(pytester.path)
        destroy_environment(environment.name)
    assert wait_until_clean() == []
