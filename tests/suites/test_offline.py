"""The shop's suite, bundled, on a host that has no way out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage.images.store import Store
from pytest_carthage.providers.podman import PodmanProvider
from pytest_carthage_fixtures.shop import Shop
from tests.support.leftovers import assert_nothing_left
from tests.support.unprivileged import REPOSITORY

pytestmark = [pytest.mark.real, pytest.mark.timeout(1200)]

OURS = [sys.executable, "-m", "pytest_carthage"]
PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--carthage-strict"]
#: loopback is no way out
ALONE = ["unshare", "--net", "sh", "-ec", 'ip link set lo up; exec "$@"', "sh"]


class Host:
    """Another host: another store, another folder, no network."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = Store(root / "images")
        self.state = root / "state"

    def run(self, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        own = {"CARTHAGE_IMAGES": str(self.store.root), "CARTHAGE_STATE": str(self.state)}
        return subprocess.run(
            [*ALONE, *words],
            cwd=cwd or self.root,
            env={**os.environ, **own},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Where the shop's bundle was unpacked."""
    if problems := PodmanProvider().check():
        pytest.skip("; ".join(map(str, problems)))
    root = tmp_path_factory.mktemp("offline")
    path = root / "shop.tar"
    shop = str(REPOSITORY / "example_suites/shop/conftest.py:Shop")
    done = subprocess.run(
        [*OURS, "bundle", shop, "-q", "-o", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    made = Host(root)
    unpacked = made.run(*OURS, "unbundle", str(path), "elsewhere")
    assert unpacked.returncode == 0, unpacked.stdout
    assert "pytest --carthage-offline --carthage-locked" in unpacked.stdout
    path.unlink()
    yield made
    shutil.rmtree(root)


def test_host_has_no_way_out(host: Host) -> None:
    assert host.run("ip", "route").stdout == ""


def test_shop_passes_without_a_network(host: Host) -> None:
    done = host.run(
        *PYTEST,
        "--timeout=900",
        "--carthage-offline",
        "--carthage-locked",
        cwd=host.root / "elsewhere",
    )
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout
    assert_nothing_left(host.state)


def test_layer_that_is_missing_is_named(host: Host) -> None:
    (layer,) = host.store.layers()
    away = host.root / "away"
    layer.path.rename(away)
    try:
        done = host.run(*PYTEST, "--carthage-offline", cwd=host.root / "elsewhere")
    finally:
        away.rename(layer.path)
    assert done.returncode == 1
    assert "this run is offline, and what is missing would have to be fetched:" in done.stdout
    base = f"base {Shop.debian.origin}"
    assert f"  image 'debian': layer {base!r} is missing: packages of Debian " in done.stdout
    assert "`pytest-carthage unbundle` of a bundle that has it" in done.stdout
    assert_nothing_left(host.state)
