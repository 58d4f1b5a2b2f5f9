from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.errors import AnsibleError
from pytest_carthage.work.ansible.inventory import by_ansibles_names, check_pattern, inventory
from tests.work.ansible.live import plan_of, planned

PLAN = plan_of(
    planned("web", groups=("shop", "front"), address="192.0.2.20/24"),
    planned(
        "db",
        groups=("shop",),
        variables={"ansible_host": "db.example", "size": 3},
        inventory_hostname="db1.prod.example",
    ),
    planned("till_1"),
)


def made(**interpreters: str) -> dict[str, Any]:
    return inventory(PLAN, socket=Path("/run/fabric.sock"), interpreters=interpreters)


def test_inventory_holds_each_machine_and_its_groups() -> None:
    assert list(made()["hosts"]) == ["web", "db1.prod.example", "till_1"]
    assert made()["groups"] == {"shop": ["web", "db1.prod.example"], "front": ["web"]}


def test_inventory_reaches_a_machine_by_its_agent() -> None:
    web = made()["hosts"]["web"]
    assert web["ansible_connection"] == "carthage"
    assert made()["variables"]["ansible_carthage_socket"] == "/run/fabric.sock"
    assert web["ansible_carthage_machine"] == "web"
    assert web["ansible_host"] == "192.0.2.20"


def test_inventory_knows_whom_all_names_stand_for() -> None:
    names = made()["variables"]["ansible_carthage_names"]
    assert names == {
        "web": "web",
        "192.0.2.20": "web",
        "db": "db",
        "db1.prod.example": "db",
        "till_1": "till_1",
    }


def test_inventory_of_a_namespace_machine_keeps_out_of_the_hosts_homes() -> None:
    web = made()["hosts"]["web"]
    assert web["ansible_remote_tmp"] == "/tmp"
    assert web["ansible_async_dir"] == "/tmp/.ansible_async"


def test_inventory_without_an_address_has_the_name() -> None:
    assert made()["hosts"]["till_1"]["ansible_host"] == "till_1"


def test_inventory_declared_variables_win() -> None:
    db = made()["hosts"]["db1.prod.example"]
    assert db["ansible_host"] == "db.example"
    assert db["size"] == 3
    assert "size" in db["carthage_layout_variables"]


def test_inventory_interpreter_is_a_default_of_all() -> None:
    everything = made(web="/usr/bin/python3", db="/usr/bin/python3", till_1="/opt/python3")
    assert everything["defaults"] == {"ansible_python_interpreter": "/usr/bin/python3"}
    assert "ansible_python_interpreter" not in everything["hosts"]["web"]
    assert everything["hosts"]["till_1"]["ansible_python_interpreter"] == "/opt/python3"


def test_inventory_unknown_interpreter_is_left_to_ansible() -> None:
    assert made()["defaults"] == {"ansible_python_interpreter": "auto_silent"}
    hosts = made(web="/usr/bin/python3")["hosts"]
    assert hosts["db1.prod.example"]["ansible_python_interpreter"] == "auto_silent"


def test_inventory_interpreter_of_the_configuration_is_left_alone() -> None:
    made = inventory(PLAN, socket=Path("/run/fabric.sock"), interpreters=None)
    assert made["defaults"] == {}
    assert "ansible_python_interpreter" not in made["hosts"]["web"]


@pytest.mark.parametrize(
    "limit",
    [
        *("web", "shop", "web,db", "w*", "all:!db", "shop:&front", "till_[0-9]", "shop[0]"),
        *("shop[0:1]:web", "~we.", "localhost", "@hosts.txt"),
    ],
)
def test_limit_of_known_names_passes(limit: str) -> None:
    check_pattern(PLAN, "limit", limit)


@pytest.mark.parametrize("limit", ["wbe", "web,wbe", "shop:!wbe"])
def test_limit_with_an_unknown_name_lists_what_there_is(limit: str) -> None:
    with pytest.raises(
        AnsibleError,
        match=r"limit '.*': 'wbe' is neither a machine nor a group of layout 'Shop', did you mean "
        r"'web'\?; machines: db, till_1, web; groups: front, shop$",
    ):
        check_pattern(PLAN, "limit", limit)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("web", "web"),
        ("db", "db1.prod.example"),
        ("shop:!db", "shop,!db1.prod.example"),
        ("web,db", "web,db1.prod.example"),
        ("db*", "db*"),
    ],
)
def test_pattern_has_the_names_that_ansible_knows(pattern: str, expected: str) -> None:
    assert by_ansibles_names(PLAN, pattern) == expected
