"""Processes that are forked from the test's: they refuse handles, and leave layouts alone."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_carthage import Layout, Machine, Network
from pytest_carthage.errors import ForkedError
from pytest_carthage.portal import Portal
from tests.support.unprivileged import REPOSITORY

from .conftest import Build

# Python 3.12 warns of a fork beside threads, which is what these tests are about
pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(60),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


class Lone(Layout):
    lan = Network("10.0.0.0/24")
    left = Machine(links={"eth0": lan.at(".1")})


def in_child(body: Callable[[], object]) -> str:
    """What a forked process says of what it did: the error, or what was given."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            try:
                said = repr(body())
            except BaseException as error:
                said = f"{type(error).__name__}: {error}"
            os.write(writing, said.encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        said = file.read()
    os.waitpid(pid, 0)
    return said


def test_handle_in_a_forked_process_says_at_once_that_it_cannot(build: Build) -> None:
    left = build(Lone)["left"]
    own = os.getpid()

    async def awaited() -> None:
        await left.aio.run("true")

    for body in (
        lambda: left.run("true"),
        lambda: left.connect(80),
        lambda: asyncio.run(awaited()),
        lambda: left.forward(80).__enter__(),
    ):
        said = in_child(body)
        assert said.startswith("ForkedError: "), said
        assert f"which was forked from process {own}" in said
        assert "try: call it in the test's process" in said
    assert left.run("echo still here").stdout == "still here\n"


def test_pool_of_forked_processes_gets_the_error(build: Build) -> None:
    left = build(Lone)["left"]
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()

    def use() -> None:
        try:
            left.run("true")
        except ForkedError as error:
            queue.put(str(error))

    child = context.Process(target=use)
    child.start()
    assert "run() was called in process" in queue.get()
    child.join()
    assert left.run("true").ok


def test_forked_process_that_closes_all_leaves_the_layout_alone(
    build: Build, portal: Portal
) -> None:
    layout = build(Lone)
    fabric = layout.aio.fabric

    def end() -> None:
        fabric.close()
        portal.close()

    assert in_child(end) == "None"
    assert layout["left"].run("true").ok


SUITE = """
import os, sys
from pytest_carthage import Layout, Machine, Network


class Lone(Layout):
    lan = Network("10.0.0.0/24")
    left = Machine(links={"eth0": lan.at(".1")})


lone = Lone.fixture()


def test_child_that_leaves_through_pytest(lone):
    pid = os.fork()
    if pid == 0:
        sys.exit(0)  # all of pytest's ending happens there, too
    os.waitpid(pid, 0)
    assert lone.left.run("echo alive").stdout == "alive\\n"


def test_child_that_stays(lone):
    if os.environ.get("STAY"):
        if os.fork() == 0:
            os.execvp("sleep", ["sleep", "60"]) if os.environ["STAY"] == "exec" else None
            import time
            time.sleep(60)
            os._exit(0)
        import pathlib
        pathlib.Path(os.environ["MARK"]).write_text("now")
        import time
        time.sleep(60)
"""


def run_suite(folder: Path, **env: str) -> subprocess.Popen[str]:
    (folder / "test_child.py").write_text(SUITE)
    (folder / "pytest.ini").write_text("[pytest]\n")
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **env},
        start_new_session=True,
    )


def test_child_that_ends_all_of_pytest_leaves_the_parent_s_layout(
    state: Path, tmp_path: Path
) -> None:
    process = run_suite(tmp_path)
    said, _ = process.communicate(timeout=50)
    assert process.returncode == 0, said
    assert "2 passed" in said


@pytest.mark.parametrize("manner", ["plain", "exec"])
def test_environment_ends_with_its_test_process_though_a_child_of_that_goes_on(
    state: Path, tmp_path: Path, manner: str
) -> None:
    mark = tmp_path / "mark"
    process = run_suite(tmp_path, STAY=manner, MARK=str(mark))
    try:
        deadline = time.monotonic() + 30
        while not mark.exists():
            assert time.monotonic() < deadline, "it did not come so far"
            time.sleep(0.02)
        assert list(state.glob("runs/[!.]*")), "its run is there"
        os.kill(process.pid, signal.SIGKILL)
        deadline = time.monotonic() + 20
        while list(state.glob("runs/[!.]*")):
            assert time.monotonic() < deadline, "the child holds it"
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
