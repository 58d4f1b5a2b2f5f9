"""A product's own suite, on top of the installed wheel, bundled for a host that has no way out."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage.providers.podman import PodmanProvider
from pytest_carthage.store.root import Store
from pytest_carthage_fixtures.shop import Shop
from tests.support.leftovers import assert_nothing_left

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

PRODUCT = Path(__file__).parent / "product"
#: loopback is no way out
ALONE = ["unshare", "--net", "sh", "-ec", 'ip link set lo up; exec "$@"', "sh"]


#: apart from the Python that runs this test
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL"))}


class Host:
    """Another host: another store, another folder, no network."""

    def __init__(self, root: Path, python: Path) -> None:
        self.root = root
        self.ours = [str(python), "-m", "pytest_carthage"]
        self.pytest = [str(python), "-m", "pytest", "-p", "no:cacheprovider", "--carthage-strict"]
        self.store = Store(root / "images")
        self.state = root / "state"

    def run(self, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        own = {"CARTHAGE_IMAGES": str(self.store.root), "CARTHAGE_STATE": str(self.state)}
        return subprocess.run(
            [*ALONE, *words],
            cwd=cwd or self.root,
            env={**ENVIRONMENT, **own},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def host(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Where the product's bundle was unpacked."""
    if problems := PodmanProvider().check():
        pytest.skip("; ".join(map(str, problems)))
    root = tmp_path_factory.mktemp("offline")
    path = root / "product.tar"
    product = shutil.copytree(PRODUCT, root / "product")
    made = Host(root, installed)
    done = subprocess.run(
        [*made.ours, "bundle", "conftest.py:Boutique", "-q", "-o", str(path)],
        cwd=product,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    unpacked = made.run(*made.ours, "unbundle", "--yes", str(path), "elsewhere")
    assert unpacked.returncode == 0, unpacked.stdout
    assert "pytest --carthage-offline --carthage-locked" in unpacked.stdout
    path.unlink()
    yield made
    # tens of thousands of files of images
    subprocess.run(["rm", "-rf", str(root)], check=True)


def test_host_has_no_way_out(host: Host) -> None:
    assert host.run("ip", "route").stdout == ""


def test_product_reuses_the_shop_in_four_lines() -> None:
    code = (PRODUCT / "conftest.py").read_text().splitlines()
    assert len([line for line in code if line]) == 4


def test_product_passes_without_a_network(host: Host) -> None:
    done = host.run(
        *host.pytest,
        "--carthage-offline",
        "--carthage-locked",
        cwd=host.root / "elsewhere",
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed in" in done.stdout
    assert_nothing_left(host.state)


def test_layer_that_is_missing_is_named(host: Host) -> None:
    (layer,) = (layer for layer in host.store.layers if layer.meta.parent is None)
    away = host.root / "away"
    layer.path.rename(away)
    try:
        done = host.run(*host.pytest, "--carthage-offline", cwd=host.root / "elsewhere")
    finally:
        away.rename(layer.path)
    assert done.returncode == 1
    assert "this run is offline, and what is missing would have to be fetched:" in done.stdout
    base = f"base {Shop.debian.origin}"
    assert f"  image 'debian': layer {base!r} is missing: packages of Debian " in done.stdout
    assert "`pytest-carthage unbundle` of a bundle that has it" in done.stdout
    assert_nothing_left(host.state)
