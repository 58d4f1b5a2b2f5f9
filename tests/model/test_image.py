from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pytest_carthage import Image


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
    key = "7076d6d8624bd4df4abfc7f5cd8d6518c951284208243d0752e13fe465028cef"
    assert Image.debian("bookworm", packages=["git"]).key == key


@given(st.lists(st.sampled_from(["git", "curl", "jq", "nginx"])), st.sampled_from(["git", "jq"]))
def test_with_packages_adds_in_any_order(packages: list[str], more: str) -> None:
    image = Image.debian("bookworm", packages=packages).with_packages(more)
    assert image == Image.debian("bookworm", packages=[more, *packages])
    assert image.with_packages(more) is image


def test_oci_image_keeps_its_reference() -> None:
    image = Image.oci("localhost/db:1")
    assert (image.kind, image.reference, image.name) == ("oci", "localhost/db:1", "localhost/db:1")
    assert image.with_packages() is image
