"""What names of interfaces, packages and groups may be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_carthage.model.names import interface_mistake, is_group, is_package

REFUSED = "is one that the kernel refuses or keeps for itself"


@pytest.mark.parametrize(
    ("name", "mistake"),
    [
        ("eth0", None),
        ("a", None),
        ("a" * 15, None),
        ("a" * 16, "has 16 bytes, the kernel takes at most 15"),
        ("ä" * 8, "has 16 bytes, the kernel takes at most 15"),
        ("ä", REFUSED),
        ("", "is no name"),
        (None, "is no name"),
        (7, "is no name"),
        (b"eth0", "is no name"),
        ("lo", REFUSED),
        ("all", REFUSED),
        ("default", REFUSED),
        (".", REFUSED),
        ("..", REFUSED),
        ("...", None),
        ("a b", REFUSED),
        ("a\n", REFUSED),
        ("a/b", REFUSED),
        ("a:b", REFUSED),
        ("a%b", REFUSED),
        ("eth0.10", None),
        ("-eth0!", None),
        ("lo0", None),
    ],
)
def test_interface_name_is_one_that_the_kernel_takes(name: object, mistake: str | None) -> None:
    assert interface_mistake(name) == mistake


@given(name=st.text(max_size=20))
def test_any_name_that_is_taken_fits_the_kernel(name: str) -> None:
    if interface_mistake(name) is None:
        assert 0 < len(name.encode()) <= 15
        assert not set(name) & set("/:% \n\t\0")


@pytest.mark.parametrize(
    "name",
    ["git", "g++", "libc6:i386", "python3.11", "0ad", "nginx=1.22.1-9+deb12u1", "a+b:amd64=1:2~3"],
)
def test_package_is_one_that_apt_could_be_asked_for(name: str) -> None:
    assert is_package(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a",
        "Git",
        "-y",
        "git curl",
        "git\n",
        "git=",
        "git:",
        "git/sid",
        "gît",
        "a;b",
        None,
        7,
        b"git",
    ],
)
def test_package_is_none_that_apt_would_take_for_something_else(name: object) -> None:
    assert not is_package(name)


@pytest.mark.parametrize("name", ["web", "_web", "Web_1", "a"])
def test_group_is_a_name_as_python_has(name: str) -> None:
    assert is_group(name)


@pytest.mark.parametrize("name", ["", "1web", "web-1", "web 1", "wéb", "web\n", None, 7])
def test_group_is_nothing_else(name: object) -> None:
    assert not is_group(name)
