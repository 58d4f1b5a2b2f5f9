"""What machines of a layout may install, as its author writes it."""

from __future__ import annotations

import pytest

from pytest_carthage import Layout, LayoutError, Packages
from pytest_carthage.planning import make_plan


def test_word_open_is_the_whole_archive_and_no_package() -> None:
    packages = Packages.of("open")
    assert packages.is_open
    assert packages.chosen == ()


def test_names_are_kept_in_their_order_and_once() -> None:
    packages = Packages.of(["nginx", "curl", "nginx"])
    assert not packages.is_open
    assert packages.chosen == ("nginx", "curl")


def test_name_of_no_package_is_refused() -> None:
    with pytest.raises(
        LayoutError,
        match=r"^packages: 'Nginx' is no name of a Debian package; declared at .*test_packages.py:"
        r"\d+; try: Packages\(\"nginx\"\), or",
    ):
        Packages("Nginx")


def test_repository_without_a_scheme_is_refused() -> None:
    with pytest.raises(LayoutError, match=r"'apt.example' is no address of a repository; decl"):
        Packages(repositories=["apt.example"])


def test_plan_of_a_layout_has_its_choice() -> None:
    class Shop(Layout):
        packages = "open"

    class Bigger(Shop):
        pass

    assert make_plan(Bigger, targets={}).packages == Packages("open")


def test_layout_with_another_choice_is_refused_where_it_is_written() -> None:
    with pytest.raises(LayoutError, match=r"layout 'Shop'.*packages: 5 is no choice of packages"):

        class Shop(Layout):
            packages = 5  # type: ignore[assignment]
