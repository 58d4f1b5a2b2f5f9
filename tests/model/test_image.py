from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_carthage import File, Image, LayoutError, Role, filesystem_task, machine_task
from pytest_carthage.model.image import Healthcheck, ImageConfig
from pytest_carthage.work.files.filesystem import Filesystem


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


def test_images_that_leave_out_less_have_other_keys() -> None:
    images = [
        Image.debian("bookworm"),
        Image.debian("bookworm", docs=True),
        Image.debian("bookworm", locales=["de_DE.UTF-8"]),
        Image.debian("bookworm", mirror="http://x/debian"),
        Image.debian("bookworm", mirror="http://x/debian", keyring="x.gpg"),
    ]
    assert len({image.key for image in images}) == len(images)
    assert "doc" not in images[1].left_out
    assert "locale" in images[1].left_out


@pytest.mark.parametrize(
    ("image", "what"),
    [
        (Image.debian("bookworm", locales=["german"]), "'german' is not the name of a locale"),
        (Image.debian("bookworm", keyring="x.gpg"), "keyring= is of no use without mirror="),
    ],
)
def test_mistake_in_what_a_debian_has_is_told(image: Image, what: str) -> None:
    assert [mistake.what for mistake in image.mistakes] == [what]


def test_key_is_stable_between_versions_of_the_package() -> None:
    """Changing it has everybody build all images anew: do it on purpose (FORMAT) or not at all."""
    image = Image.debian("bookworm", packages=["git"])
    assert image.base_key == "5380b855ac5bf3c34b6c482919db7f0b"
    assert image.with_packages("jq").key == "aeaf244d3e65ed39e7601f669bee3a67"
    checked = image.with_(healthcheck=Healthcheck(command=("true",)))
    slow = image.with_(healthcheck=Healthcheck(command=("true",), start_period_s=5.0))
    assert len({image.key, checked.key, slow.key}) == 3


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
    (mistake,) = Image.debian("bookworm").with_(tag="Not A Tag").mistakes
    assert "tag 'Not A Tag' is not a name for an image" in mistake.what


@pytest.mark.parametrize(
    "name",
    [
        "localhost/x:1",
        "registry.example:5000/team/app:1.2",
        "a",
        "a:" + "b" * 128,
        "Registry.example/a__b/c--d.e:_",
    ],
)
def test_tag_that_is_a_name_is_no_mistake(name: str) -> None:
    assert Image.debian("bookworm").with_(tag=name).mistakes == ()


@pytest.mark.parametrize(
    "name",
    ["", "a:", "a:b:c", "a/", "/a", "a//b", "a:-x", "host:port/a", "a..b", "A", "a b", "a:1/b:2:3"],
)
def test_tag_that_no_store_could_have_is_a_mistake(name: str) -> None:
    (mistake,) = Image.debian("bookworm").with_(tag=name).mistakes
    assert (mistake.what, mistake.remedy) == (
        f"tag {name!r} is not a name for an image",
        'tag="localhost/server:1"',
    )


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

    mistakes = Image.debian("bookworm").with_(Odd()).mistakes
    assert "cannot be part of a key" in mistakes[0].what


@pytest.mark.parametrize(
    ("image", "what", "remedy"),
    [
        (
            Image.debian("bookworm", variant="huge"),
            "'huge' is not a variant of mmdebstrap",
            "one of minbase, buildd, important, standard, apt, required",
        ),
        (
            Image.debian("bookworm", mirror="snapshot"),
            "'snapshot' is not the address of an archive",
            'mirror="http://snapshot.debian.org/archive/debian/20251101T000000Z"',
        ),
        (
            Image.debian(7),  # type: ignore[arg-type]
            "7 is not the name of a suite",
            'Image.debian("bookworm")',
        ),
        (Image.oci(""), "'' is not an image reference", 'Image.oci("localhost/name:tag")'),
        (
            Image.debian("bookworm").with_packages("git", "--yes"),
            "'--yes' is not the name of a Debian package",
            'packages=["iproute2", "python3"]',
        ),
        (
            Image.oci("localhost/a").with_packages("no such"),
            "'no such' is not the name of a Debian package",
            'packages=["iproute2", "python3"]',
        ),
        (
            Image.debian("bookworm").with_(tag="a" * 5 + ":" + "b" * 129),
            f"tag '{'a' * 5}:{'b' * 129}' is not a name for an image",
            'tag="localhost/server:1"',
        ),
    ],
)
def test_declaration_that_is_wrong_is_a_mistake_with_a_remedy(
    image: Image, what: str, remedy: str
) -> None:
    assert [(one.what, one.remedy) for one in image.mistakes] == [(what, remedy)]
    assert image.mistakes[0].place.file == __file__


@pytest.mark.parametrize(
    "image",
    [
        Image.debian("bookworm-backports.1", variant="-"),
        Image.debian("sid", packages=["g++", "libc6:i386", "nginx=1.22.1-9+deb12u1"]),
        Image.debian("bookworm", mirror="file:/srv/debian"),
        Image.debian("bookworm", mirror="/srv/debian"),
        Image.debian("bookworm", mirror="https://deb.debian.org/debian"),
        Image.oci("docker://registry.example:5000/a@sha256:0123"),
    ],
)
def test_declaration_that_is_right_is_no_mistake(image: Image) -> None:
    assert image.mistakes == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"command": []}, "command [] has no word that could be run; declared at "),
        ({"command": ""}, "command () has no word that could be run; declared at "),
        ({"command": 7}, "command 7 has no word that could be run; declared at "),
        ({"healthcheck": []}, "healthcheck [] has no word that could be run; declared at "),
        ({"env": ["A"]}, "env ['A'] is no mapping of names to text; declared at "),
        ({"labels": 7}, "labels 7 is no mapping of names to text; declared at "),
    ],
)
def test_configuration_that_makes_no_sense_is_refused_where_it_is_written(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(LayoutError) as caught:
        Image.debian("bookworm").with_(name="site", **arguments)
    assert str(caught.value).startswith(f"image 'site': {message}{__file__}:")
    (argument,) = arguments
    assert f"; try: {argument}=" in str(caught.value)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("nginx -g 'daemon off;'", ("/bin/sh", "-c", "nginx -g 'daemon off;'")),
        (["nginx", "-g", "daemon off;"], ("nginx", "-g", "daemon off;")),
        (("sleep", 7), ("sleep", "7")),
    ],
)
def test_command_of_text_is_given_to_a_shell_as_that_of_a_machine(
    command: Any, words: tuple[str, ...]
) -> None:
    image = Image.debian("bookworm").with_(command=command, healthcheck=command)
    assert image.config.command == words
    assert image.config.healthcheck is not None
    assert image.config.healthcheck.command == words


def test_healthcheck_with_its_times_is_kept_as_it_is() -> None:
    check = Healthcheck(command=("true",), interval_s=1, timeout_s=2, retries=5)
    assert Image.debian("bookworm").with_(healthcheck=check).config.healthcheck is check


def test_configuration_says_what_the_one_below_says_where_it_says_nothing() -> None:
    below = ImageConfig(
        command=("a",),
        env=(("A", "1"), ("B", "1")),
        labels=(("l", "1"),),
        user="app",
        healthcheck=Healthcheck(command=("true",)),
        workdir="/srv",
    )
    assert ImageConfig().over(below) == below
    assert below.over(ImageConfig()) == below
    above = ImageConfig(command=(), env=(("B", "2"),), labels=(("m", "2"),), user="root")
    assert above.over(below) == ImageConfig(
        command=(),
        env=(("A", "1"), ("B", "2")),
        labels=(("l", "1"), ("m", "2")),
        user="root",
        healthcheck=Healthcheck(command=("true",)),
        workdir="/srv",
    )


@pytest.mark.parametrize(
    ("image", "origin"),
    [
        (Image.debian("bookworm"), "debian bookworm (minbase)"),
        (
            Image.debian("sid", variant="apt", packages=["git", "curl"]),
            "debian sid (apt) with curl, git",
        ),
        (Image.oci("localhost/a:1"), "oci localhost/a:1"),
        (Image.rootfs("a/b.tar.gz"), "rootfs b.tar.gz"),
        (Image.containerfile("web/Containerfile"), "containerfile Containerfile"),
        (Image.disk("x.qcow2"), "disk x.qcow2"),
    ],
)
def test_origin_tells_what_it_begins_with(image: Image, origin: str) -> None:
    assert image.origin == origin
    assert image.with_packages("htop").origin == origin


@pytest.mark.parametrize(
    ("image", "name"),
    [
        (Image.debian("bookworm"), "debian-bookworm"),
        (Image.debian("bookworm", name="base"), "base"),
        (Image.oci("localhost/a:1"), "localhost/a:1"),
        (Image.rootfs("srv/root.tar.gz"), "root"),
        (Image.rootfs("srv/root.tar"), "root"),
        (Image.rootfs("srv/root"), "root"),
        (Image.rootfs("srv/v1.2.tgz"), "v1.2"),
        (Image.disk("srv/x.qcow2"), "x"),
        (Image.containerfile("web/Containerfile"), "web"),
        (Image.debian("bookworm").with_(name="site"), "site"),
        (Image.debian("bookworm").with_(env={"A": "1"}), "debian-bookworm"),
    ],
)
def test_name_is_the_given_one_or_follows_from_where_it_is(image: Image, name: str) -> None:
    assert image.name == name


def test_name_and_place_do_not_make_another_image() -> None:
    assert Image.debian("bookworm", name="a") == Image.debian("bookworm", name="b")
    assert Image.debian("bookworm", name="a").key == Image.debian("bookworm", name="b").key


def test_every_word_of_the_configuration_makes_another_key() -> None:
    base = Image.debian("bookworm")
    variants: list[dict[str, Any]] = [
        {},
        {"command": ["a"]},
        {"env": {"A": "1"}},
        {"labels": {"A": "1"}},
        {"user": "app"},
        {"healthcheck": "a"},
        {"workdir": "/a"},
        {"tag": "a"},
    ]
    keys = [base.with_(**variant).key for variant in variants]
    assert len(set(keys)) == len(variants)
    assert keys[0] == base.key
    # what is done to it is in the key, what it begins with in one of its own
    assert {base.with_(**variant).base_key for variant in variants} == {base.base_key}
    assert base.with_packages("git").base_key == base.base_key
    assert base.with_packages("git").key != base.key


@pytest.mark.parametrize(
    "other",
    [
        Image.debian("trixie"),
        Image.debian("bookworm", variant="apt"),
        Image.debian("bookworm", packages=["git"]),
        Image.debian("bookworm", mirror="http://deb.example/debian"),
        Image.oci("bookworm"),
        Image.oci("debian"),
        Image.rootfs("bookworm"),
        Image.disk("bookworm"),
        Image.containerfile("bookworm"),
        Image.containerfile("bookworm", context="other"),
    ],
)
def test_what_it_begins_with_makes_another_key(other: Image) -> None:
    assert other.base_key != Image.debian("bookworm").base_key
    assert other != Image.debian("bookworm")


def test_all_packages_are_those_of_the_base_of_roles_and_of_what_was_added() -> None:
    image = Image.debian("bookworm", packages=["git"]).with_(Web()).with_packages("curl", "git")
    assert image.all_packages == {"git", "nginx", "curl"}
    assert [step.packages for step in image.steps if step.kind == "packages"] == [
        ("nginx",),
        ("curl",),
    ]
    assert image.with_packages("nginx", "curl") is image
