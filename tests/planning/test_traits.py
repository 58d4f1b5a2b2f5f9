"""What a target's machines are like: which traits go together, and what follows from them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_carthage.handles.capability import Capability
from pytest_carthage.planning.targets import ASKS, default, others
from pytest_carthage.planning.traits import UNKNOWN, Needs, Root, Traits

HOST = Traits(root="host", init=False, outside=False)
ROOTS, NEEDS = get_args(Root), get_args(Needs)


@given(root=st.sampled_from(ROOTS), needs=st.sampled_from(NEEDS))
def test_root_of_an_image_needs_something_of_it_and_one_that_exists_needs_nothing(
    root: Root, needs: Needs
) -> None:
    if root == "host" or (root == "image") == (needs != "nothing"):
        traits = Traits(root=root, init=True, outside=False, needs=needs)
        assert (traits.root, traits.needs) == (root, needs)
        return
    with pytest.raises(ValueError) as caught:
        Traits(root=root, init=True, outside=False, needs=needs)
    assert str(caught.value) == (
        f"traits: root={root!r} and needs={needs!r}; a root that comes from an image needs folders"
        " or a disk of it, and one that exists already needs nothing"
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"root": "container"},
            r"^traits: root='container'; there are: \('host', 'image', 'existing'\)$",
        ),
        (
            {"needs": "a disk"},
            r"^traits: needs='a disk'; there are: \('folders', 'disk', 'nothing'\)$",
        ),
        (
            {"lacks": frozenset({"fly", "dig", "run"})},
            r"^traits: lacks=\['dig', 'fly'\]; there are: \['run', 'files', ",
        ),
    ],
)
def test_traits_that_there_are_not_are_refused_with_those_that_there_are(
    wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        replace(HOST, **wrong)


@pytest.mark.parametrize("capability", get_args(Capability))
def test_machine_can_do_what_its_target_does_not_lack(capability: Capability) -> None:
    assert HOST.can(capability)
    assert not replace(HOST, lacks=frozenset({capability})).can(capability)
    other: Capability = "run" if capability != "run" else "files"
    assert replace(HOST, lacks=frozenset({capability})).can(other)
    # outside of the fabric there are no networks of a layout, whatever is said
    assert replace(HOST, outside=True).can(capability) is (capability != "links")


def test_machine_whose_target_is_not_looked_at_can_do_everything() -> None:
    assert all(UNKNOWN.can(capability) for capability in get_args(Capability))
    assert (UNKNOWN.root, UNKNOWN.init, UNKNOWN.is_default) == ("existing", True, False)


def test_conditions_ask_for_what_there_is() -> None:
    assert set(ASKS.values()) <= set(get_args(Capability))
    assert dict(ASKS) == {
        "port": "listening",
        "file": "files",
        "log": "logs",
        "unit": "run",
        "command": "run",
        "asked": "run",
        "rebooted": "power",
        "exited": "power",
        "screen": "screen",
    }


def test_root_of_a_machine_is_its_images_where_the_target_takes_that() -> None:
    both = Traits(root="host", init=True, outside=False, needs="folders", is_default=True)
    assert both.of(has_image=True).root == "image"
    assert both.of(has_image=True).init
    bare = both.of(has_image=False)
    assert (bare.root, bare.needs, bare.init) == ("host", "nothing", False)
    assert HOST.of(has_image=True) == HOST
    assert default({"a": both}, "image") == default({"a": both}, "host") == "a"


def test_default_is_the_only_one_of_its_root_that_says_so() -> None:
    image = Traits(root="image", init=True, outside=False, needs="disk", is_default=True)
    host = replace(HOST, is_default=True)
    assert default({"a": host, "b": image}, "host") == "a"
    assert default({"a": host, "b": image}, "image") == "b"
    assert default({"a": host, "b": HOST}, "host") == "a"
    assert default({"a": host, "b": host}, "host") is None
    assert default({"a": HOST}, "host") is None
    assert default({}, "host") is None


def test_others_are_those_that_can_the_default_first_and_images_for_who_has_one() -> None:
    targets = {
        "poor": replace(HOST, lacks=frozenset({"freeze"})),
        "shelf": HOST,
        "pods": Traits(root="image", init=True, outside=False, needs="folders"),
        "bare": replace(HOST, is_default=True),
    }
    assert others(targets, "freeze", has_image=False) == 'on="bare" or on="shelf"'
    assert others(targets, "freeze", has_image=True) == 'on="bare" or on="shelf" or on="pods"'
    assert others({"poor": targets["poor"]}, "freeze", has_image=True) == "a target that can"


def test_settings_are_needed_only_where_there_are_any() -> None:
    with pytest.raises(ValueError, match="needs_settings=True and settings=None: there are none"):
        Traits(root="existing", init=True, outside=True, needs_settings=True)
