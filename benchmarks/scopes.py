"""What a scope costs: twenty tests in two files of two classes each, with a layout of two machines
that lasts for the session, a file, a class or a test. On the ``netns`` target, without an image
and with one.

Each is a whole ``pytest`` process; against the same with the layout of the session.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.harness import Figure, in_turns, main, seconds
from benchmarks.layouts import IMAGE, crowd, live

#: scope to how many environments there are
ENVIRONMENTS = {"session": 1, "module": 2, "class": 4, "function": 20}

_CONFTEST = f"""
import os

from pytest_carthage import Image, Layout, Machine, Network

image = None
if os.environ["BENCHMARK_IMAGE"]:
    image = Image.debian({IMAGE.suite!r}, packages={list(IMAGE.packages)!r})


class Pair(Layout):
    lan = Network("10.0.0.0/24")
    left = Machine(image, links={{"eth0": lan.at(".1")}})
    right = Machine(image, links={{"eth0": lan.at(".2")}})


pair = Pair.fixture(scope=os.environ["BENCHMARK_SCOPE"])
"""
_TESTS = """
import pytest


@pytest.mark.parametrize("number", range(5))
class TestFirst:
    def test_it(self, pair, number):
        assert pair.left.run("true").ok


class TestSecond(TestFirst):
    pass
"""


@contextmanager
def suite() -> Iterator[Callable[[str, bool], float]]:
    """A folder with the suite; gives what runs it in a scope, and returns the seconds."""
    with tempfile.TemporaryDirectory(prefix="carthage-benchmark-") as name:
        folder = Path(name)
        (folder / "conftest.py").write_text(_CONFTEST)
        for file in ("test_first.py", "test_second.py"):
            (folder / file).write_text(_TESTS)

        def run(scope: str, has_image: bool) -> float:
            env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
            env |= {"BENCHMARK_SCOPE": scope, "BENCHMARK_IMAGE": "y" if has_image else ""}

            def once() -> None:
                argv = [sys.executable, "-m", "pytest", "--carthage-strict", "-q"]
                done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True)
                if done.returncode:
                    raise RuntimeError(done.stdout + done.stderr)

            return seconds(once)

        yield run


def take(rounds: int) -> Sequence[Figure]:
    """Take the figures."""
    with live(crowd(1, image=IMAGE)):
        pass  # the image is there from now on
    figures: list[Figure] = []
    with suite() as run:
        for has_image in (False, True):
            taken = in_turns(rounds, *(partial(run, scope, has_image) for scope in ENVIRONMENTS))
            by_scope = dict(zip(ENVIRONMENTS, taken, strict=True))
            machines = "2 machines with an image" if has_image else "2 machines without an image"
            for scope, count in ENVIRONMENTS.items():
                what = f"pytest: 20 tests, {machines}, scope {scope!r}: {count} environments"
                if scope == "session":
                    figures.append(Figure(what=what, unit="s", ours=by_scope[scope]))
                    continue
                figures.append(
                    Figure(
                        what=what,
                        unit="s",
                        ours=by_scope[scope],
                        other=by_scope["session"],
                        versus="scope 'session'",
                        # of a quiet machine, for each environment more
                        at_most_more=(0.5 if has_image else 0.2) * (count - 1),
                    )
                )
    return figures


if __name__ == "__main__":
    main(take)
