"""Indexes of pip and npm for machines, in front of small ones on this host's loopback."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_carthage import Layout, Machine, Network, Packages
from pytest_carthage.mirror.process import Mirror
from pytest_carthage.mirror.settings import ADDRESS, Client, Settings
from pytest_carthage.store.built import Built
from tests.mirror.shelf import served, stock
from tests.providers.conftest import DEBIAN
from tests.support.layouts import Build

pytestmark = pytest.mark.timeout(300)


@contextlib.contextmanager
def listening(settings: Settings) -> Iterator[str]:
    """A mirror on this host's loopback; yields its address."""
    ours, theirs = socket.socketpair()
    listener = socket.create_server((ADDRESS, 0))
    port = listener.getsockname()[1]
    started: queue.Queue[tuple[asyncio.AbstractEventLoop, asyncio.Task[object]]] = queue.Queue()

    async def serve() -> None:
        task = asyncio.current_task()
        assert task is not None
        mirror = Mirror(settings, theirs)
        await mirror._listen(Client(machine="host"), listener.detach())
        started.put((asyncio.get_running_loop(), task))
        await mirror.run()

    def run() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    loop, task = started.get(timeout=30)
    try:
        yield f"http://{ADDRESS}:{port}"
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        ours.close()
        theirs.close()


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "shelf"
    folder.mkdir()
    with served(folder) as address:
        stock(folder, address)
        yield address


@pytest.fixture
def settings(shelf: str, tmp_path: Path) -> Settings:
    return Settings(layout="Shop", folder=str(tmp_path / "cache"), pip=f"{shelf}/simple", npm=shelf)


def _pip(address: str, name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    pip = [sys.executable, "-m", "uv", "pip", "install", "--no-cache", "--no-config"]
    own = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    return subprocess.run(
        [*pip, "--target", str(folder), "--index-url", f"{address}/pip/simple", name],
        capture_output=True,
        text=True,
        env=own,
        check=False,
    )


def test_pip_installs_by_the_index_and_once_kept_without_it(
    settings: Settings, tmp_path: Path
) -> None:
    with listening(settings) as address:
        done = _pip(address, "till", tmp_path / "once")
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "once/till.py").exists()
        lost = _pip(address, "shop", tmp_path / "lost")
        assert lost.returncode != 0
        assert "shop was not found" in lost.stderr
    shutil.rmtree(tmp_path / "shelf")
    with listening(replace(settings, offline=True)) as address:
        done = _pip(address, "till", tmp_path / "again")
        assert done.returncode == 0, done.stderr


def test_npm_installs_by_the_registry(settings: Settings, tmp_path: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm; try: apt-get install npm")
    home = tmp_path / "home"
    home.mkdir()
    with listening(settings) as address:
        done = subprocess.run(
            [npm, "install", "--no-audit", "--no-fund", f"--registry={address}/npm/", "till"],
            cwd=home,
            env={"PATH": os.environ["PATH"], "HOME": str(home)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert (home / "node_modules/till/package.json").exists()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/pip/simple/till/", "layout Shop has no pip; try: packages = Packages(..., pip=True)"),
        ("/npm/till", "layout Shop has no npm; try: packages = Packages(..., npm=True)"),
        ("/files/0/shadow", "no index has led to /files/0/shadow"),
    ],
)
def test_what_no_index_has_led_to_is_refused(settings: Settings, path: str, said: str) -> None:
    with listening(replace(settings, pip="", npm="")) as address:
        done = subprocess.run(
            ["curl", "-s", f"{address}{path}"], capture_output=True, text=True, check=True
        )
    assert done.stdout == f"{said}\n"


@pytest.mark.real
def test_pip_of_a_machine_finds_the_index(build: Build, built: Built, shelf: str) -> None:
    lan = Network("10.0.0.0/24")
    image = DEBIAN.with_packages("python3-pip")
    members = {
        "packages": Packages(pip=f"{shelf}/simple"),
        "lan": lan,
        "web": Machine(image, links={"eth0": lan.at(".1")}),
    }
    shop = build(Layout.of("Snakes", members))
    shop["web"].run("pip install --break-system-packages till && python3 -c 'import till'")
