"""Roles of machines with an image: in the image, or on the machine itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_carthage import (
    CreationError,
    Layout,
    Machine,
    Network,
    Role,
    TaskError,
    filesystem_task,
    machine_task,
)
from pytest_carthage.live.machines.machine import AsyncMachine, MachineHandle
from pytest_carthage.work.files.filesystem import AsyncFilesystem, Filesystem

from .conftest import DEBIAN, Build

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeter(Role):
    packages = ("hello",)
    greeting: str = "hello"
    loud: bool = False

    @filesystem_task("write it down")
    async def write(self, fs: AsyncFilesystem) -> None:
        await fs.run(f"echo {self.greeting} >> /etc/greeting")
        if self.loud:
            await fs.run("echo ! >> /etc/greeting")

    @filesystem_task("sign it")
    def sign(self, fs: Filesystem) -> None:
        fs.write_text("/etc/signed", fs.read_text("/etc/greeting"))

    @machine_task("say it")
    def say(self, machine: MachineHandle) -> None:
        machine.run("cat /etc/greeting >> /said; hostname >> /said")


def test_role_of_the_image_is_not_done_again_and_another_is_done_on_the_machine(
    build: Build,
) -> None:
    class Office(Layout):
        lan = Network("10.0.0.0/24")
        image = DEBIAN.with_(Greeter())
        a = Machine(image, roles=[Greeter()], links={"eth0": lan.at(".1")})
        b = Machine(image, roles=[Greeter(greeting="hi", loud=True)], links={"eth0": lan.at(".2")})
        c = Machine(DEBIAN, roles=[Greeter().but(greeting="hey")], links={"eth0": lan.at(".3")})

    office = build(Office)
    texts = {name: office[name].read_text("/etc/greeting") for name in "abc"}
    assert texts == {"a": "hello\n", "b": "hello\nhi\n!\n", "c": "hey\n"}
    assert office["c"].read_text("/etc/signed") == "hey\n"
    assert office["a"].read_text("/said") == "hello\na\n"
    for name in "abc":
        assert office[name].run("hello --greeting=x").stdout == "x\n"
    # what c needs was put into its image, and its base is that of the others
    bases = {machine.image.base_key for machine in office.plan.machines.values() if machine.image}
    assert len(bases) == 1


def test_packages_and_templates_reach_a_machine_that_has_no_way_out(
    build: Build, tmp_path: Path
) -> None:
    class Office(Layout):
        lan = Network("10.0.0.0/24")
        a = Machine(DEBIAN, links={"eth0": lan.at(".1")})

    a = build(Office)["a"]
    a.install("jq")
    assert a.host.package("jq").is_installed
    a.install("jq")  # is there
    (tmp_path / "x.j2").write_text("{{ one }}, {{ two }}\n")
    a.template(tmp_path / "x.j2", "/etc/new/x", variables={"one": 1, "two": 2}, mode=0o600)
    assert a.read_text("/etc/new/x") == "1, 2\n"
    assert a.host.file("/etc/new/x").mode == 0o600
    a.purge("jq", autoremove=True)
    assert not a.host.package("jq").is_installed
    assert not a.host.package("libjq1").is_installed
    with pytest.raises(TaskError, match="no-such-package"):
        a.install("no-such-package")
    assert not a.exists("/run/carthage-packages")


UNIT = "[Service]\nExecStart=/bin/sleep 1000\n[Install]\nWantedBy=multi-user.target\n"


def test_unit_is_enabled_in_an_image_and_started_on_a_machine(build: Build) -> None:
    @filesystem_task("unit")
    async def unit(fs: AsyncFilesystem) -> None:
        await fs.write_text("/etc/systemd/system/early.service", UNIT)
        await fs.enable("early.service")

    class Office(Layout):
        lan = Network("10.0.0.0/24")
        image = DEBIAN.with_(unit, command=["/sbin/init"])
        a = Machine(image, links={"eth0": lan.at(".1")})

    a = build(Office)["a"]
    assert a.planned.init == "systemd"
    assert a.host.service("early").is_running
    a.write_text("/etc/systemd/system/late.service", UNIT)
    a.enable("late.service")
    assert a.host.service("late").is_running
    a.disable("late.service")
    assert not a.host.service("late").is_running
    with pytest.raises(TaskError, match=r"cannot enable no-such\.service"):
        a.enable("no-such.service")


def test_images_command_and_variables_are_the_machines(build: Build) -> None:
    class Office(Layout):
        lan = Network("10.0.0.0/24")
        image = DEBIAN.with_(command=["sh", "-c", "echo $A $B > /begun; sleep 100"], env={"A": "1"})
        a = Machine(image, links={"eth0": lan.at(".1")}, env={"B": "2"})
        b = Machine(image, links={"eth0": lan.at(".2")}, command=["sleep", "100"])

    office = build(Office)
    assert office["a"].run("cat /begun; echo $A").lines == ["1 2", "1"]
    assert not office["b"].exists("/begun")


def test_task_that_fails_on_a_machine_is_named_with_its_place(build: Build) -> None:
    class Broken(Role):
        @machine_task("break it")
        async def break_(self, machine: AsyncMachine) -> None:
            await machine.run("echo no good >&2; exit 3")

    class Office(Layout):
        lan = Network("10.0.0.0/24")
        a = Machine(DEBIAN, roles=[Broken()], links={"eth0": lan.at(".1")})

    with pytest.raises(CreationError) as caught:
        build(Office)
    text = str(caught.value)
    assert text.startswith("machine 'a' of layout 'Office': task 'break it' of role Broken (")
    assert "test_podman_roles.py:" in text
    assert "exited with status 3" in text
    assert "no good" in text


def test_task_that_wants_the_network_is_refused_on_a_machine(build: Build) -> None:
    class Fetch(Role):
        @filesystem_task("fetch", network=True)
        def fetch(self, fs: Filesystem) -> None:
            """Never done."""

    class Office(Layout):
        lan = Network("10.0.0.0/24")
        a = Machine(DEBIAN, roles=[Fetch()], links={"eth0": lan.at(".1")})

    with pytest.raises(CreationError, match=r"'fetch' of role Fetch .* wants the network"):
        build(Office)


def test_machine_that_comes_again_begins_anew(build: Build) -> None:
    class Office(Layout):
        lan = Network("10.0.0.0/24")
        a = Machine(DEBIAN, links={"eth0": lan.at(".1")})

    office = build(Office)
    machine = Machine(DEBIAN, links={"eth0": Office.lan.at(".2")})
    office.add(name="b", machine=machine).write_text("/mine", "x")
    office.remove("b")
    assert not office.add(name="b", machine=machine).exists("/mine")
