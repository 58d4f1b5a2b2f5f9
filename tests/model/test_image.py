from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_carthage import File, Image, LayoutError, Role, filesystem_task, machine_task
from pytest_carthage.access.filesystem import Filesystem


def test_images_that_say_the_same_have_the_same_key() -> None:
    one = Image.debian("bookworm", packages=["git", "curl", "git"])
    other = Image.debian("bookworm", packages=("curl", "git"), name="tools")
    assert one == other
    assert one.key == other.key
    assert one.packages == ("curl", "git")
    assert (one.name, other.name) == ("debian-bookworm", "tools")


def test_images_that_differ_have_different_keys() -> None:
    images = [
        Image.debian("bookworm"),
        Image.debian("trixie"),
        Image.debian("bookworm", packages=["git"]),
        Image.oci("bookworm"),
        Image.oci("localhost/db:1"),
    ]
    assert len({image.key for image in images}) == len(images)


def test_key_is_stable_between_versions_of_the_package() -> None:
    """Changing it has everybody build all images anew: do it on purpose (FORMAT) or not at all."""
    image = Image.debian("bookworm", packages=["git"])
    assert image.base_key == "4080835d00b03269907086a8226fc881"
    assert image.with_packages("jq").key == "028756778ff05f4e40faf9c95e1db0bf"


@given(st.lists(st.sampled_from(["git", "curl", "jq", "nginx"])), st.sampled_from(["git", "jq"]))
def test_with_packages_adds_those_that_are_missing(packages: list[str], more: str) -> None:
    image = Image.debian("bookworm", packages=packages)
    made = image.with_packages(more)
    assert made.all_packages == {*packages, more}
    assert made.base == image.base
    assert (made is image) == (more in packages)
    assert made.with_packages(more) is made


def test_tag_is_of_the_image_that_it_was_given_to() -> None:
    image = Image.debian("bookworm", packages=["git"]).with_(tag="localhost/x:1")
    assert image.with_packages("git").tag == "localhost/x:1"
    assert image.with_packages("jq").tag is None


def test_oci_image_keeps_its_reference() -> None:
    image = Image.oci("localhost/db:1")
    assert (image.kind, image.reference, image.name) == ("oci", "localhost/db:1", "localhost/db:1")
    assert image.with_packages() is image


# derived images


@filesystem_task("say hello")
def hello(fs: Filesystem) -> None:
    fs.write_text("/hello", "hello")


@machine_task
def start(machine: object) -> None:
    """A task of a machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Web(Role):
    packages = ("nginx",)
    port: int = 80

    @filesystem_task("configure")
    def configure(self, fs: Filesystem) -> None:
        fs.write_text("/port", str(self.port))

    @filesystem_task("secure")
    def secure(self, fs: Filesystem) -> None:
        fs.run("true")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop(Web):
    @filesystem_task("sell")
    def sell(self, fs: Filesystem) -> None:
        fs.run("true")

    @filesystem_task("configure as a shop")
    def configure(self, fs: Filesystem) -> None:
        fs.write_text("/port", "8080")


def test_steps_are_in_the_order_in_which_they_were_declared() -> None:
    image = Image.debian("bookworm").with_(hello, Web(), File("x", "/x")).with_(Shop(port=81))
    assert [step.title for step in image.steps] == [
        *("say hello", "install nginx", "configure", "secure", "copy x to /x"),
        *("install nginx", "configure as a shop", "secure", "sell"),
    ]
    assert image.roles == (Web(), Shop(port=81))


def test_image_says_what_it_is_told_over_what_it_is_made_of() -> None:
    base = Image.debian("bookworm").with_(
        env={"A": "1", "B": "1"}, labels={"team": "x"}, command=["/a"], user="app"
    )
    image = base.with_(env={"B": "2"}, command=["/sbin/init"], healthcheck="true", tag="x/y:1")
    assert dict(image.config.env) == {"A": "1", "B": "2"}
    assert (image.config.command, image.config.user) == (("/sbin/init",), "app")
    assert image.config.healthcheck is not None
    assert image.config.healthcheck.command == ("/bin/sh", "-c", "true")
    assert image.with_(name="other").tag is None
    assert image.base == Image.debian("bookworm")


@pytest.mark.parametrize(
    ("one", "what"),
    [
        (start, "task 'start' needs a machine that runs, and an image does not run"),
        (Web, "Web is a class"),
        (lambda fs: None, "is no content of an image"),
        ("nginx", "'nginx' is no content of an image"),
    ],
)
def test_what_is_no_content_is_refused_with_the_place(one: object, what: str) -> None:
    with pytest.raises(LayoutError, match=re.escape(what)) as caught:
        Image.debian("bookworm").with_(one)
    assert "test_image.py:" in str(caught.value)
    assert "image 'debian-bookworm'" in str(caught.value)


def test_tag_that_is_no_name_is_a_fault() -> None:
    (fault,) = Image.debian("bookworm").with_(tag="Not A Tag").faults
    assert "tag 'Not A Tag' is not a name for an image" in fault.what


@pytest.mark.parametrize("name", ["localhost/x:1", "registry.example:5000/team/app:1.2", "a"])
def test_tag_that_is_a_name_is_none(name: str) -> None:
    assert Image.debian("bookworm").with_(tag=name).faults == ()


def test_relative_paths_are_of_the_authors_file() -> None:
    here = Path(__file__).parent
    assert Image.rootfs("x.tar.gz").path == here / "x.tar.gz"
    made = Image.containerfile("app/Containerfile")
    assert (made.path, made.context) == (here / "app/Containerfile", here / "app")
    assert File("motd", "/etc/motd").source == here / "motd"


def test_parameter_without_a_key_is_told() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Odd(Web):
        thing: object = field(default_factory=object)

    faults = Image.debian("bookworm").with_(Odd()).faults
    assert "cannot be part of a key" in faults[0].what
