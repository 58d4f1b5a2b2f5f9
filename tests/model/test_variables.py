"""Variables of hosts: names and values that Ansible takes."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from pytest_carthage.model.variables import variable_mistake

NO_NAME = "is not a name that Ansible takes: letters, digits and _"


@pytest.mark.parametrize(
    ("name", "mistake"),
    [
        ("tier", None),
        ("ansible_user", None),
        ("ansible_network_os", None),
        ("name", None),
        ("_x1", None),
        ("", NO_NAME),
        ("a-b", NO_NAME),
        ("1x", NO_NAME),
        ("größe", NO_NAME),
        ("a b", NO_NAME),
        ("for", "is a word of the language of templates"),
        ("none", "is a word of the language of templates"),
        *(
            (magic, "is set by Ansible itself, and what an inventory says has no effect")
            for magic in ("hostvars", "groups", "inventory_hostname", "omit")
        ),
    ],
)
def test_variable_has_a_name_that_templates_can_use(name: str, mistake: str | None) -> None:
    assert variable_mistake(name, 1) == mistake


def test_values_are_what_json_and_paths_and_addresses_are() -> None:
    value = {"a": [1, 2.5, None, True, "x"], "b": {"c": (Path("/x"), ip_address("10.0.0.1"))}}
    assert variable_mistake("x", value) is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("inf"), "has inf (float), which Ansible cannot be given"),
        ([b"x"], "has b'x' (bytes), which Ansible cannot be given"),
        ({"a": {("k",): 1}}, "has ('k',) (tuple), which Ansible cannot be given"),
        ({"a": {1j}}, "has 1j (complex), which Ansible cannot be given"),
        (len, "has <built-in function len> (builtin_function_or_method), which Ansible cannot"),
    ],
)
def test_value_that_json_cannot_hold_is_named(value: object, words: str) -> None:
    assert str(variable_mistake("x", value)).startswith(words)
