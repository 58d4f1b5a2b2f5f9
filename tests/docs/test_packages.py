"""The snippets of ``docs/how-to/packages.md``."""

from __future__ import annotations

import pytest

from pytest_carthage import Image, Layout, Machine, Network, Packages
from pytest_carthage.planning import make_plan
from tests.providers.conftest import DEBIAN, Build, build, built, debian, podman, state

__all__ = ["build", "built", "debian", "podman", "state"]


def test_layout_names_its_packages() -> None:
    # docs: layout
    class Shop(Layout):
        packages = ["hello"]

        lan = Network("10.0.0.0/24")
        web = Machine(Image.debian("bookworm"), links={"eth0": lan.at(".1")})

    # docs: end
    assert make_plan(Shop).machines["web"].image is not None


class Shop(Layout):
    """The same with the image of the other tests."""

    packages = ["hello"]

    lan = Network("10.0.0.0/24")
    web = Machine(DEBIAN, links={"eth0": lan.at(".1")})


@pytest.mark.real
@pytest.mark.timeout(400)
def test_package_is_installed_as_production_does(build: Build) -> None:
    shop = build(Shop)
    # docs: install
    shop["web"].run("apt-get update")
    shop["web"].run("apt-get install -y hello")
    # docs: end
    assert shop["web"].run("hello").stdout == "Hello, world!\n"


def test_layout_names_indexes() -> None:
    # docs: indexes
    class Site(Layout):
        packages = Packages("open", pip=True, npm="https://npm.example/registry")

    # docs: end
    assert Site.packages.pip is True
    assert Site.packages.npm == "https://npm.example/registry"


def test_image_has_documentation_and_another_has_another_archive() -> None:
    # docs: whole
    whole = Image.debian("bookworm", docs=True, locales=["de_DE.UTF-8"])
    # docs: derivative
    derivative = Image.debian(
        "noble", mirror="http://archive.example/derivative", keyring="derivative.gpg"
    )
    # docs: end
    assert whole.locales == ("de_DE.UTF-8",)
    assert derivative.keyring is not None
    assert not [*whole.mistakes, *derivative.mistakes]
