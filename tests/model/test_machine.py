from __future__ import annotations

import dataclasses

import pytest

from pytest_carthage import Condition, Image, Machine, Network, command, file, log, port, unit
from pytest_carthage.roles import Router


def test_machine_normalises_what_it_is_given() -> None:
    lan = Network("10.0.0.0/24")
    machine = Machine(
        Image.debian("bookworm"),
        links={"eth0": lan.at()},
        roles=[Router()],
        command="echo hello; sleep infinity",
        masquerade="eth0",
        wait_for=port(80),
        groups="web",
        after="db",
        ready_timeout_s=5,
    )
    assert machine.command == ("/bin/sh", "-c", "echo hello; sleep infinity")
    assert machine.masquerade == ("eth0",)
    assert machine.wait_for == (Condition("port", "80"),)
    assert machine.groups == ("web",)
    assert machine.after == ("db",)
    assert machine.roles == (Router(),)
    assert not machine.faults


def test_machine_does_not_follow_later_changes_of_its_arguments() -> None:
    links = {"eth0": Network("10.0.0.0/24").at()}
    machine = Machine(links=links)
    links.clear()
    assert list(machine.links) == ["eth0"]
    with pytest.raises(TypeError):
        machine.links["eth1"] = machine.links["eth0"]  # type: ignore[index]


def test_replace_changes_one_thing_and_has_its_own_place() -> None:
    machine = Machine(hostname="web", groups=["web"], command=["sleep", "1"])
    other = machine.replace(hostname="api")
    assert (other.hostname, other.groups, other.command) == ("api", ("web",), ("sleep", "1"))
    assert other.place.file == __file__
    assert other.place.line == machine.place.line + 1
    assert machine.copied().place == machine.place


def test_replace_of_dataclasses_works_and_has_its_own_place() -> None:
    machine = Machine(hostname="web")
    other = dataclasses.replace(machine, hostname="api")
    assert other.hostname == "api"
    assert (other.place.file, other.place.line) == (__file__, machine.place.line + 1)


def test_replace_with_an_unknown_argument_is_refused() -> None:
    with pytest.raises(TypeError, match="host_name"):
        Machine().replace(host_name="api")


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (port(80), "port 80"),
        (unit("nginx"), "unit nginx"),
        (command("pg_isready", user="postgres"), "command pg_isready"),
        (file("/run/ready"), "file /run/ready"),
        (log("ready to serve"), "log ready to serve"),
    ],
)
def test_condition_says_what_it_waits_for(condition: Condition, text: str) -> None:
    assert str(condition) == text


def test_machine_on_a_class_that_is_no_layout_stays_a_declaration() -> None:
    class Fixtures:
        web = Machine()

    assert Fixtures().web is Fixtures.web  # type: ignore[call-overload]


def test_repr_tells_image_and_interfaces() -> None:
    lan = Network("10.0.0.0/24")
    machine = Machine(Image.oci("localhost/db"), links={"eth0": lan.at()})
    assert repr(machine) == "<Machine localhost/db eth0>"
    assert repr(Machine()) == "<Machine>"
