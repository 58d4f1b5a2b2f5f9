from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address
from typing import Any

import pytest

from pytest_carthage import (
    Condition,
    Forward,
    Image,
    Layout,
    LayoutError,
    Limits,
    Machine,
    Network,
    NetworkLink,
    Role,
    command,
    file,
    log,
    port,
    unit,
)
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
    assert not machine.mistakes


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
    with pytest.raises(
        LayoutError,
        match=r"^machine: it has no argument 'host_name'; declared at .*; try: hostname=; there",
    ):
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


# what is wrong with its arguments, whatever the layout is


@pytest.mark.parametrize(
    ("arguments", "what", "remedy"),
    [
        ({"image": 7}, "image=7 is of a wrong type (int)", 'Image.debian("bookworm")'),
        (
            {"links": {7: None}},
            "links has a key of a wrong type: 7",
            'links={"eth0": lan.at(".1")}',
        ),
        ({"roles": 7}, "roles=7 is of a wrong type (int)", "roles=[Router()]"),
        ({"roles": {"a": 1}}, "roles={'a': 1} is of a wrong type (dict)", "roles=[Router()]"),
        ({"on": ""}, "on is empty", 'on="the name of a target", or leave it out'),
        ({"hostname": b"web"}, "hostname=b'web' is of a wrong type (bytes)", 'hostname="web"'),
        ({"command": ""}, "command is empty", 'command=["sleep", "infinity"], or leave it out'),
        ({"command": " \n"}, "command is empty", 'command=["sleep", "infinity"], or leave it out'),
        ({"command": 7}, "command=7 is of a wrong type (int)", 'command=["sleep", "infinity"]'),
        (
            {"restart": "sometimes"},
            "restart policy 'sometimes' is unknown",
            'one of "no", "on-failure", "on-failure:3" (or another number), "always"',
        ),
        (
            {"restart": "on-failure:0"},
            "restart policy 'on-failure:0' is unknown",
            'one of "no", "on-failure", "on-failure:3" (or another number), "always"',
        ),
        ({"restart": True}, "restart=True is of a wrong type (bool)", 'restart="on-failure"'),
        (
            {"restart": "always", "init": "systemd"},
            "restart='always' and init='systemd' exclude each other: systemd starts services again"
            " by itself",
            "Restart= in the unit, or leave restart= out",
        ),
        (
            {"restart": "always"},
            "restart='always' is about the main process, and the machine has none",
            'command=["..."], or leave restart= out',
        ),
        ({"init": True}, "init True is unknown", 'init="systemd", or leave it out'),
        ({"env": ["A=1"]}, "env=['A=1'] is of a wrong type (list)", 'env={"LANG": "C.UTF-8"}'),
        ({"env": {"": "x"}}, "env has no variable name in ''", 'env={"LANG": "C.UTF-8"}'),
        ({"env": {"A=B": "x"}}, "env has no variable name in 'A=B'", 'env={"LANG": "C.UTF-8"}'),
        ({"env": {"A": 1}}, "env['A']=1 is of a wrong type (int)", "env={'A': '1'}"),
        (
            {"env": {"A": "x" * 131_070}},
            "env['A'] has 131072 bytes with its name, and the kernel takes 131071 for a variable",
            'env={"LANG": "C.UTF-8"}',
        ),
        (
            {"env": {f"A{number:03}": "x" * 100_000 for number in range(30)}},
            "all of it has 3000420 bytes, and the kernel takes 1835008 beside what else there is",
            'env={"LANG": "C.UTF-8"}',
        ),
        (
            {"command": ["echo", "x" * 131_072]},
            f"command: '{'x' * 259}...{'x' * 29}' has 131072 bytes, and the kernel takes"
            " 131071 for a word",
            'command=["sleep", "infinity"]',
        ),
        (
            {"command": ["", "x"]},
            "command: the name of the program is empty",
            'command=["sleep", "infinity"]',
        ),
        ({"forward": 1}, "forward=1 is of a wrong type (int)", "forward=True"),
        ({"masquerade": 5}, "masquerade=5 is of a wrong type (int)", 'masquerade="eth0"'),
        ({"masquerade": [5]}, "masquerade=5 is of a wrong type (int)", 'masquerade="eth0"'),
        (
            {"forwards": ["wan0"]},
            "forwards='wan0' is of a wrong type (str)",
            'forwards=[Forward("wan0", 80, to="web")]',
        ),
        (
            {"routes": {"10.0.0.0/8": 7}},
            "routes['10.0.0.0/8']=7 is of a wrong type (int)",
            'routes={"10.1.0.0/16": ".254"}',
        ),
        ({"wait_for": [80]}, "wait_for=80 is of a wrong type (int)", "wait_for=[port(80)]"),
        (
            {"wait_for": port(0)},
            "wait_for: '0' is not a port from 1 to 65535",
            "wait_for=[port(80)]",
        ),
        (
            {"wait_for": port(65536)},
            "wait_for: '65536' is not a port from 1 to 65535",
            "wait_for=[port(80)]",
        ),
        ({"wait_for": unit("")}, "wait_for: unit of what? It is ''", "wait_for=[port(80)]"),
        (
            {"wait_for": file("etc/motd")},
            "wait_for: path 'etc/motd' does not start with /",
            'file("/etc/motd")',
        ),
        ({"wait_for": unit("a b")}, "wait_for: 'a b' is not the name of a unit", 'unit("nginx")'),
        ({"wait_for": unit("-a")}, "wait_for: '-a' is not the name of a unit", 'unit("nginx")'),
        (
            {"ready_timeout_s": "60"},
            "ready_timeout_s='60' is of a wrong type (str)",
            "ready_timeout_s=60",
        ),
        (
            {"ready_timeout_s": True},
            "ready_timeout_s=True is of a wrong type (bool)",
            "ready_timeout_s=60",
        ),
        (
            {"ready_timeout_s": 0},
            "ready_timeout_s 0 is not a positive number",
            "ready_timeout_s=60",
        ),
        (
            {"ready_timeout_s": float("nan")},
            "ready_timeout_s nan is not a positive number",
            "ready_timeout_s=60",
        ),
        (
            {"ready_timeout_s": float("inf")},
            "ready_timeout_s inf is not a positive number",
            "ready_timeout_s=60",
        ),
        ({"limits": 256}, "limits=256 is of a wrong type (int)", "limits=Limits(memory_mib=256)"),
        (
            {"limits": Limits(memory_mib=0)},
            "limit memory_mib=0 is not a positive number",
            "limits=Limits(memory_mib=256)",
        ),
        (
            {"limits": Limits(memory_mib=0.5)},  # type: ignore[arg-type]
            "limit memory_mib=0.5 is not a positive number",
            "limits=Limits(memory_mib=256)",
        ),
        (
            {"limits": Limits(cpus=float("nan"))},
            "limit cpus=nan is not a positive number",
            "limits=Limits(cpus=0.5)",
        ),
        (
            {"limits": Limits(cpus=float("inf"))},
            "limit cpus=inf is not a positive number",
            "limits=Limits(cpus=0.5)",
        ),
        (
            {"limits": Limits(cpus=0.009)},
            "limit cpus=0.009 is not from 0.01 to 100000, as the kernel takes it",
            "limits=Limits(cpus=0.5)",
        ),
        (
            {"limits": Limits(pids=1)},
            "limit pids=1 is not from 2 to 4194304, as the kernel takes it",
            "limits=Limits(pids=256)",
        ),
        (
            {"limits": Limits(memory_mib=2**43)},
            "limit memory_mib=8796093022208 is not from 1 to 8796093022207, as the kernel takes it",
            "limits=Limits(memory_mib=256)",
        ),
        (
            {"wait_for": Condition("ports", "80")},  # type: ignore[arg-type]
            "wait_for: there is no condition 'ports'",
            "wait_for=[port(80)], or one of port, unit, command, file, log",
        ),
        (
            {"wait_for": command("true", user="a b")},
            "wait_for: user 'a b' is no name of a user",
            'user="www"',
        ),
        (
            {"variables": {"hostvars": 1}},
            "variable 'hostvars' is set by Ansible itself, and what an inventory says has no"
            " effect",
            'variables={"tier": "front"}',
        ),
        (
            {"limits": Limits(pids=True)},
            "limit pids=True is not a positive number",
            "limits=Limits(pids=256)",
        ),
        ({"privileged": 1}, "privileged=1 is of a wrong type (int)", "privileged=True"),
        (
            {"capabilities": ["SYS_NICE", "nice!"]},
            "capability 'NICE!' is no name of capabilities(7)",
            'capabilities=["SYS_NICE"]',
        ),
        *(
            (
                {"devices": device},
                f"device {device!r} is not a path in /dev, alone or followed by"
                " :/PATH IN THE MACHINE, by :rwm or by both",
                'devices=["/dev/fuse"]',
            )
            for device in ("fuse", "/etc/fuse", "/dev/fuse:rwx", "/dev/fuse:/dev/x:r:w", "/dev/")
        ),
        ({"groups": 7}, "groups=7 is of a wrong type (int)", 'groups=["web"]'),
        (
            {"groups": ["web-servers"]},
            "group 'web-servers' is not a name that Ansible takes",
            'groups=["web_servers"]',
        ),
        ({"groups": ""}, "group '' is not a name that Ansible takes", 'groups=["web"]'),
        ({"variables": 7}, "variables=7 is of a wrong type (int)", 'variables={"tier": "front"}'),
        ({"after": 7}, "after=7 is of a wrong type (int)", "after=[db]"),
    ],
)
def test_argument_that_is_wrong_is_a_mistake_with_a_remedy(
    arguments: dict[str, Any], what: str, remedy: str
) -> None:
    machine = Machine(**arguments)
    assert [(one.what, one.remedy) for one in machine.mistakes] == [(what, remedy)]
    assert machine.mistakes[0].place == machine.place
    assert machine.place.file == __file__


def test_mistakes_are_told_in_the_order_of_the_arguments_and_none_is_lost() -> None:
    machine = Machine(
        groups=["a-b"],
        hostname="",
        command=[],
        limits=Limits(memory_mib=-1, cpus=-0.5, pids=0),
    )
    assert [one.what for one in machine.mistakes] == [
        "hostname is empty",
        "command is empty",
        "limit memory_mib=-1 is not a positive number",
        "limit cpus=-0.5 is not a positive number",
        "limit pids=0 is not a positive number",
        "group 'a-b' is not a name that Ansible takes",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        {"limits": Limits(memory_mib=1, cpus=0.1, pids=2)},
        {"limits": Limits(cpus=2)},
        {"limits": Limits()},
        {"ready_timeout_s": 0.1},
        {"wait_for": [port(1), port(65535), unit("a@b\\x2d.service"), file("/"), log(" ")]},
        {"env": {"A": "", "b.c": "=\n"}},
        {"groups": ("_a1", "B")},
        {"routes": {"default": IPv4Address("10.0.0.1")}},
        {"command": ["echo", ""]},
        {"init": "systemd"},
        {"restart": "no", "init": "systemd"},
        {"restart": "on-failure:12", "command": "true"},
        {"restart": "always", "image": Image.oci("localhost/db")},
        {"forwards": Forward("wan0", 80, to="web")},
    ],
)
def test_argument_that_is_right_is_no_mistake(arguments: dict[str, Any]) -> None:
    assert Machine(**arguments).mistakes == ()


def test_replace_keeps_the_mistakes_whose_values_it_cannot_keep() -> None:
    machine = Machine(init="openrc")  # type: ignore[arg-type]
    other = machine.replace(hostname="")
    assert [one.what for one in other.mistakes] == ["init 'openrc' is unknown", "hostname is empty"]
    assert [one.place for one in other.mistakes] == [machine.place, other.place]
    assert len(other.replace().mistakes) == 2


def test_replace_keeps_links_of_roles_apart_from_its_own() -> None:
    lan = Network("10.0.0.0/24")

    class Watches(Role):
        @property
        def links(self) -> Mapping[str, NetworkLink]:
            return {"mon0": lan.at()}

    machine = Machine(links={"eth0": lan.at()}, roles=[Watches()])
    assert list(machine.links) == ["eth0", "mon0"]
    assert list(machine.own_links) == ["eth0"]
    assert list(machine.replace(roles=[]).links) == ["eth0"]
    assert list(machine.replace(links={}).links) == ["mon0"]


def test_copy_is_equal_in_all_but_that_it_is_another() -> None:
    machine = Machine(Image.debian("bookworm"), hostname="web", env={"A": "1"}, after="db")
    copy = machine.copied()
    assert copy is not machine
    assert copy != machine
    for one in dataclasses.fields(Machine):
        assert getattr(copy, one.name) == getattr(machine, one.name), one.name


def test_image_that_is_wrong_is_wrong_with_its_machine() -> None:
    machine = Machine(Image.debian("Bookworm!"), hostname="")
    assert [one.what for one in machine.mistakes] == [
        "'Bookworm!' is not the name of a suite",
        "hostname is empty",
    ]


def test_handle_is_asked_for_by_the_name_that_the_member_has() -> None:
    class Declared:
        web = Machine()

    class Live(Declared):
        db = Machine()

        def __carthage_handle__(self, name: str) -> str:
            return f"handle of {name}"

    assert (Live().db, Live().web) == ("handle of db", "handle of web")
    assert isinstance(Live.db, Machine)
    lost = Machine()
    with pytest.raises(AttributeError, match=r"^<Machine> is no member of Live$"):
        lost.__get__(Live(), Live)


def test_rights_over_the_host_are_read_as_podman_takes_them() -> None:
    machine = Machine(
        capabilities="cap_sys_nice", devices=["/dev/fuse", "/dev/kvm:r", "/dev/sda:/dev/xvda:rw"]
    )
    assert not machine.mistakes
    assert machine.capabilities == ("SYS_NICE",)
    assert machine.replace().privileges == machine.privileges
    assert machine.privileges.arguments == ("capabilities=", "devices=")


def test_list_without_an_end_is_refused() -> None:
    class Endless:
        def __iter__(self) -> Iterator[str]:
            return itertools.repeat("web")

    groups: Any = Endless()
    with pytest.raises(LayoutError, match="groups"):
        Layout.of("Shop", {"web": Machine(groups=groups)})
