"""Layouts and images that a person names on the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage import LayoutError
from pytest_carthage.cli import policy, reference
from pytest_carthage.cli.usage import Usage
from pytest_carthage.errors import LockError

SUITE = """
from pytest_carthage import Image, Layout, Machine

debian = Image.debian("bookworm")
server = debian.with_packages("nginx").fixture()
wrong = Image.debian("Bookworm")
nothing = 7

class Lab(Layout):
    image = debian
    web = Machine(debian.with_packages("nginx"), on="podman")

class Bare(Layout):
    one = Machine()
"""


@pytest.fixture(autouse=True)
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder, with ``suite_of_reference.py``."""
    before = set(sys.modules)
    (tmp_path / "suite_of_reference.py").write_text(SUITE)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


def test_layout_and_its_plan_are_found_from_the_working_folder() -> None:
    assert reference.layout("suite_of_reference.py:Lab").__name__ == "Lab"
    plan = reference.planned("suite_of_reference.py:Bare", None)
    assert plan.machines["one"].target == "netns"
    with pytest.raises(LayoutError, match="target 'podman' needs an image"):
        reference.planned("suite_of_reference.py:Bare", "podman")


def test_module_is_the_file_that_was_named(suite: Path) -> None:
    for text in ("suite_of_reference.py", "suite_of_reference.py:Lab"):
        assert reference.module(text).__file__ == str(suite / "suite_of_reference.py")


def test_image_is_found_by_its_variable_or_its_fixtures() -> None:
    (debian,) = reference.images("suite_of_reference.py:debian", None)
    (server,) = reference.images("suite_of_reference.py:server", None)
    assert debian.suite == "bookworm"
    assert server.all_packages == {"nginx"}
    assert reference.is_image("suite_of_reference.py:server")
    assert not reference.is_image("suite_of_reference.py:Lab")
    assert not reference.is_image("suite_of_reference.py:nothing")
    assert not reference.is_image("suite_of_reference:Lab")


def test_images_of_a_layout_are_all_that_it_declares() -> None:
    images = reference.images("suite_of_reference.py:Lab", None)
    assert [sorted(image.all_packages) for image in images] == [[], ["nginx"]]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (
            "suite_of_reference.py:gone",
            Usage,
            "has no 'gone'; its images are: debian, server, wrong; its layouts are: Lab, Bare",
        ),
        (
            "suite_of_reference.py:Bare",
            Usage,
            "layout 'Bare' has no images: there is nothing to build",
        ),
        ("suite_of_reference.py:nothing", LayoutError, "7 is no layout"),
        ("suite_of_reference.py:wrong", LayoutError, "image 'debian-Bookworm'"),
        ("gone.py:Lab", LayoutError, "there is no file"),
    ],
)
def test_text_that_means_no_image_is_refused_with_what_there_is(
    text: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        reference.images(text, None)
    assert message in str(caught.value)


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    reference.add_layout(parser)
    policy.add_policy(parser)
    return parser.parse_args(["suite_of_reference.py:Lab", *arguments])


def test_builds_may_fetch_and_differ_unless_they_were_forbidden() -> None:
    lab = reference.layout("suite_of_reference.py:Lab")
    free = policy.policy(parsed(), lab)
    assert (free.offline, free.lock, free.keep_broken) == (False, None, False)
    assert policy.policy(parsed("--offline"), lab).offline


def test_lock_that_is_not_there_is_an_error_that_says_where_it_was_looked_for(
    suite: Path,
) -> None:
    lab = reference.layout("suite_of_reference.py:Lab")
    with pytest.raises(LockError, match=str(suite)):
        policy.policy(parsed("--locked"), lab)
