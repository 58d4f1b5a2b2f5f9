"""A derivative of Debian, signed by itself: as the archive of an image, and as one repository."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage import BuildError, Image, Layout, Machine, Network, Packages
from pytest_carthage.images.builder import ensure
from pytest_carthage.portal import Portal
from pytest_carthage.store.built import Built
from pytest_carthage.work.debian.apt import Apt
from pytest_carthage.work.debian.archive import Archive, native_architecture
from tests.mirror.archive import SignedArchive
from tests.mirror.shelf import served
from tests.providers.conftest import DEBIAN
from tests.support.host import host_cache
from tests.support.layouts import Build

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]

lan = Network("10.0.0.0/24")


@pytest.fixture(scope="module")
def derivative(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignedArchive]:
    if shutil.which("gpg") is None:
        pytest.skip("no gpg; try: apt-get install gpg gpg-agent")
    if native_architecture() != "amd64":
        pytest.skip("it is made of packages for amd64")
    archive = Archive.of(suite="bookworm", architecture="amd64")
    apt = Apt.of(archive, host_cache())
    _, files = asyncio.run(apt.get_base("apt", ["hello"], note=lambda text: None))
    home = Path(tempfile.mkdtemp(prefix="carthage-keys-"))  # an agent's socket has a short path
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, home)
        made = SignedArchive(tmp_path_factory.mktemp("derivative") / "noble", "noble", home)
        stack.callback(made.close)
        made.take(files)
        made.make("till-tool", "7")
        made.publish()
        yield made


@pytest.fixture(scope="module")
def address(derivative: SignedArchive) -> Iterator[str]:
    with served(derivative.root) as address:
        yield address


def test_image_of_a_derivative_is_built_and_its_machines_are_served_from_it(
    build: Build, derivative: SignedArchive, address: str
) -> None:
    image = Image.debian("noble", mirror=address, keyring=derivative.keyring, variant="apt")
    members = {
        "packages": ["till-tool"],
        "lan": lan,
        "web": Machine(image, links={"eth0": lan.at(".1")}),
    }
    web = build(Layout.of("Derived", members))["web"]
    assert web.read_text("/etc/apt/sources.list") == (
        f"deb [signed-by=/usr/share/keyrings/noble.asc] {address} noble main\n"
    )
    web.run("apt-get -q update")
    assert web.run("apt-get -q -y install till-tool hello && till-tool", check=False).ok is False
    web.run("apt-get -q -y install till-tool")
    assert web.run("till-tool").stdout == "till-tool 7\n"


def test_image_of_an_archive_with_other_keys_is_refused(address: str) -> None:
    image = Image.debian("noble", mirror=f"{address}/", variant="apt")
    with (
        contextlib.closing(Portal()) as portal,
        pytest.raises(BuildError, match=r"(?s)noble.*try: .*keyring="),
    ):
        portal.call(lambda: ensure(image, portal=portal, note=lambda who, text: None))


def test_repository_that_is_named_is_served_with_its_own_key(
    build: Build, built: Built, derivative: SignedArchive, address: str
) -> None:
    members = {
        "packages": Packages(repositories=[address]),
        "lan": lan,
        "web": Machine(DEBIAN, links={"eth0": lan.at(".1")}),
    }
    web = build(Layout.of("Named", members))["web"]
    web.put(derivative.keyring, "/etc/apt/keyrings/noble.asc")
    web.write_text(
        "/etc/apt/sources.list",
        f"deb [signed-by=/etc/apt/keyrings/noble.asc] {address} noble main\n",
    )
    web.run("apt-get -q update && apt-get -q -y install till-tool")
    assert web.run("till-tool").stdout == "till-tool 7\n"
