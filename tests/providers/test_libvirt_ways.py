"""By which way a virtual machine is asked: by what its image has."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_carthage import Image, Layout, Machine, Network, Vm
from pytest_carthage.channels.ssh.way import Way
from pytest_carthage.errors import CreationError, TimeLimitError
from pytest_carthage.images.builder import ensure
from pytest_carthage.planning import make_plan
from pytest_carthage.portal import Portal
from pytest_carthage.providers.libvirt import LibvirtProvider, disks, ways
from pytest_carthage.providers.libvirt.domain import Places
from pytest_carthage.providers.libvirt.ways import Entry, choose, read_entry
from tests.providers.conftest import DEBIAN
from tests.providers.test_libvirt_domain import domain, values
from tests.support.layouts import Build, Factories, building

PYTHON = ("usr/bin/python3", "usr/lib/python3.11/lib-dynload/resource.cpython-311.so")
MINIMAL = PYTHON[:1]
SSHD, GUEST_AGENT = "usr/sbin/sshd", "usr/sbin/qemu-ga"
AUTHORIZED = "root/.ssh/authorized_keys"

# what is chosen


def tree(folder: Path, *paths: str) -> list[Path]:
    """The layers of an image with these files."""
    folder.mkdir(exist_ok=True)
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("")
    return [folder]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ((*PYTHON, SSHD, GUEST_AGENT), "agent"),
        (("usr/local/bin/python3", SSHD), "agent"),
        ((*MINIMAL, SSHD, GUEST_AGENT), "ssh"),
        ((SSHD,), "ssh"),
        ((GUEST_AGENT,), "guest-agent"),
    ],
)
def test_way_is_the_first_that_the_image_has(
    tmp_path: Path, paths: tuple[str, ...], expected: str
) -> None:
    assert choose(Vm(), tree(tmp_path, *paths)) == (expected,)


def test_python_in_one_layer_and_its_modules_in_another_is_one(tmp_path: Path) -> None:
    (above,), (below,) = tree(tmp_path / "a", PYTHON[0]), tree(tmp_path / "b", PYTHON[1])
    assert choose(Vm(), [above, below]) == ("agent",)


def test_image_that_nobody_can_be_asked_in_is_told_with_all_ways(tmp_path: Path) -> None:
    with pytest.raises(CreationError) as caught:
        choose(Vm(), tree(tmp_path, *MINIMAL))
    assert str(caught.value) == (
        "nobody in it can be asked for anything (agent: it has python3-minimal alone, without the "
        "module resource, ssh: it has no sshd, guest-agent: it has no qemu-ga); try: an image with "
        'python3, as packages=["python3"], of which python3-minimal is not enough, or '
        'packages=["openssh-server"], or packages=["qemu-guest-agent", "udev"]'
    )


@pytest.mark.parametrize(
    ("way", "text"),
    [
        ("ssh", r"way='ssh', and it has no sshd; it can be asked by way='agent'; try: packages="),
        ("guest-agent", r"way='guest-agent', and it has no qemu-ga; it can be asked by way='age"),
    ],
)
def test_way_that_the_image_does_not_have_is_refused(
    tmp_path: Path, way: ways.Kind, text: str
) -> None:
    with pytest.raises(CreationError, match=text):
        choose(Vm(way=way), tree(tmp_path, *PYTHON))


def test_way_that_is_wanted_wins(tmp_path: Path) -> None:
    trees = tree(tmp_path, *PYTHON, SSHD, GUEST_AGENT)
    assert choose(Vm(way="guest-agent"), trees) == ("guest-agent",)


def test_machine_of_cloud_init_has_others_to_fall_back_on(tmp_path: Path) -> None:
    assert choose(Vm(), tree(tmp_path, *PYTHON, SSHD), is_cloud=True) == ("agent", "ssh")


# how it is prepared


def test_who_could_come_in_before_still_can(tmp_path: Path) -> None:
    trees = tree(tmp_path / "image", AUTHORIZED)
    (trees[0] / AUTHORIZED).write_text("ssh-ed25519 AAAA admin\n")
    assert ways._authorized(trees) == ["ssh-ed25519 AAAA admin"]
    file = ways.let_in(trees, ["ssh-ed25519 BBBB us"])[AUTHORIZED]
    assert ways.let_in(trees, []) == {}
    assert (file.data, file.mode) == (b"ssh-ed25519 AAAA admin\nssh-ed25519 BBBB us\n", 0o600)


@pytest.mark.parametrize("told_by", ["carthage", "cloud-init"])
def test_seed_lets_in_by_the_keys_of_the_declaration(told_by: str) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBq me@desk"

    class One(Layout):
        vm = Machine(DEBIAN, on=Vm(authorized_keys=(key,)))

    plan = make_plan(One, targets={"libvirt": LibvirtProvider.traits})
    planned = plan.machines["vm"]
    base: Any = SimpleNamespace(seed=told_by)
    built: Any = SimpleNamespace(lower=(), config=DEBIAN.config)
    entry = Entry(kinds=("agent",))

    def seed(vm: Vm) -> bytes:
        return disks._seed(planned, vm, plan, built, base, entry)

    assert key.encode() in seed(Vm(authorized_keys=(key,)))
    assert key.encode() not in seed(Vm())


@pytest.mark.parametrize("link", [AUTHORIZED, "root/.ssh", "root"])
def test_keys_that_are_none_of_the_image_are_not_read(tmp_path: Path, link: str) -> None:
    trees = tree(tmp_path / "image", "etc/passwd")
    outside = tmp_path / "host" / link
    (tmp_path / "host" / AUTHORIZED).parent.mkdir(parents=True)
    (tmp_path / "host" / AUTHORIZED).write_text("ssh-ed25519 AAAA of the host\n")
    (trees[0] / link).parent.mkdir(parents=True, exist_ok=True)
    (trees[0] / link).symlink_to(outside)
    assert ways._authorized(trees) == []


def test_ways_are_known_to_other_processes_without_anything_secret(tmp_path: Path) -> None:
    places = Places(folder=tmp_path, short="/run/vm/db", log=tmp_path / "db.log")
    assert read_entry(places) == Entry(kinds=("agent",))
    way = Way(host="10.0.0.10", inside=["/s", "station:lan"])
    entry = Entry(kinds=("ssh",), ssh=way, env={"GREETING": "good morning"})
    entry.write(places)
    assert read_entry(places) == replace(entry, ssh=replace(entry.ssh, jump=[]))  # type: ignore[type-var]


def test_guest_agent_that_is_asked_by_us_is_unknown_to_libvirt() -> None:
    names = "devices/channel/target[@type='virtio']"
    assert "org.qemu.guest_agent.0" in values(domain(), names, "name")
    ours = domain(asks_guest_agent=True)
    assert values(ours, names, "name") == ["org.pytest-carthage.agent"]
    line = "{http://libvirt.org/schemas/domain/qemu/1.0}commandline"
    arguments = [each.get("value") for each in ours.findall(f"{line}/*")]
    assert arguments[1] == "socket,id=guest-agent,path=/run/vm/db/qga.sock,server=on,wait=off"
    assert json.loads(str(arguments[3]))["name"] == "org.qemu.guest_agent.0"
    own = "<qemu:commandline><qemu:arg value='-no-hpet'/></qemu:commandline>"
    both = domain(Vm(xml=own), asks_guest_agent=True).findall(f"{line}/*")
    assert [each.get("value") for each in both] == ["-no-hpet", *arguments]


# machines


class ByShell(Layout):
    """Without a Python that is enough: by ssh."""

    lan = Network("10.0.0.0/24")
    vm = Machine(
        DEBIAN.with_packages("openssh-server"),
        on=Vm(),
        links={"eth0": lan.at(".10")},
        ready_timeout_s=300,
    )


class ByGuestAgent(Layout):
    vm = Machine(DEBIAN.with_packages("qemu-guest-agent", "udev"), on=Vm(), ready_timeout_s=300)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Build]:
    if problems := LibvirtProvider().check():
        pytest.skip("; ".join(map(str, problems)))
    kinds: Factories = {"libvirt": LibvirtProvider}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CARTHAGE_STATE", str(tmp_path_factory.mktemp("ways") / "state"))
        with contextlib.closing(Portal()) as portal, building(portal, kinds) as build:
            for layout in (ByShell, ByGuestAgent):
                image: Image | None = layout.vm.image
                assert image is not None
                portal.call(partial(ensure, image, portal=portal, note=_quiet))
            yield build


def _quiet(who: str, text: str) -> None:
    pass


@pytest.mark.real
@pytest.mark.emulated
@pytest.mark.timeout(900)
def test_machine_with_an_sshd_and_no_python_is_asked_by_ssh(build: Build) -> None:
    vm = build(ByShell).vm
    assert vm.way == "ssh"
    assert vm.run("id -un; hostname; pwd").lines == ["root", "vm", "/root"]
    assert vm.run("cat; exit 3", input="abc", check=False).stdout == "abc"
    vm.write_text("/srv/a", "b")
    assert vm.read_text("/srv/a") == "b"
    # known by the key that it was given, and nobody else's
    keys = vm.run("cat /etc/ssh/ssh_host_ed25519_key.pub; cat /root/.ssh/authorized_keys").stdout
    assert keys.count("ssh-ed25519 ") == 2
    assert "pytest-carthage" in keys
    assert vm.run("ss -tn state established sport = :22 | wc -l").stdout.strip() == "2"
    began = time.monotonic()
    with pytest.raises(TimeLimitError):
        vm.run("sleep 300", timeout_s=2)
    assert time.monotonic() - began < 60
    vm.reboot()
    assert vm.run("echo again").stdout == "again\n"


@pytest.mark.real
@pytest.mark.emulated
@pytest.mark.timeout(900)
def test_machine_with_qemus_guest_agent_alone_is_asked_by_that(build: Build) -> None:
    vm = build(ByGuestAgent).vm
    assert vm.way == "guest agent"
    assert vm.run("id -un; hostname").lines == ["root", "vm"]
    vm.write_text("/srv/a", "b")
    assert vm.read_text("/srv/a") == "b"
