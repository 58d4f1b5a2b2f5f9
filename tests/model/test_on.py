"""What machines tell their targets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from pytest_carthage import Disk, LayoutError, Machine, On, Ssh, Vm
from pytest_carthage.model.keys.key import digest
from pytest_carthage.model.vm import xml_elements


@dataclass(frozen=True, kw_only=True)
class Board(On):
    """Settings as somebody else's target has them."""

    target: ClassVar[str] = "shelf"
    slot: int

    def wrong_values(self) -> Iterator[tuple[str, str]]:
        if self.slot > 8:
            yield f"slot {self.slot} is none of the shelf", "slot=1"


def mistakes_of(on: Any) -> list[tuple[str, str, int]]:
    machine = Machine(on=on)
    return [(one.what, one.remedy, one.place.line) for one in machine.mistakes]


def test_settings_name_their_target() -> None:
    assert Machine(on=Vm()).target == "libvirt"
    assert Machine(on=Ssh("db1.lab")).target == "ssh"
    assert Machine(on=Board(slot=3)).target == "shelf"
    assert Machine(on="podman").target == "podman"
    assert Machine().target is None


def test_settings_are_shown_as_what_they_say_beside_the_defaults() -> None:
    data = Disk(name="data", size_mib=64)
    assert str(Vm()) == "Vm()"
    assert dict(Vm(cpus=2, disks=(data,)).settings) == {"cpus": 2, "disks": (data,)}
    assert str(Ssh("db1.lab", port=2222)) == "Ssh(host='db1.lab', port=2222)"
    assert str(Board(slot=3)) == "Board(slot=3)"


def test_same_settings_of_another_line_are_equal_and_have_one_key() -> None:
    one = Vm(memory_mib=1024, disks=[Disk(name="data", size_mib=64)])  # type: ignore[arg-type]
    other = Vm(
        memory_mib=1024,
        disks=Disk(name="data", size_mib=64),  # type: ignore[arg-type]
    )
    assert one == other
    assert digest(one) == digest(other) != digest(Vm())


def test_replaced_machine_keeps_its_settings() -> None:
    machine = Machine(on=Vm(cpus=2))
    assert machine.replace(forward=True).on == Vm(cpus=2)
    assert machine.replace(on="netns").on == "netns"


@pytest.mark.parametrize(
    ("on", "what", "remedy"),
    [
        (Vm, "on=Vm is a class instead of settings", "on=Vm(...)"),
        (5, "on=5 is of a wrong type (int)", 'on="the name of a target"'),
        (Board(slot=9), "slot 9 is none of the shelf", "slot=1"),
        (
            Vm(memory_mib=16),
            "vm memory_mib 16 is not a whole number from 64 to 16777216",
            "memory_mib=512",
        ),
        (Vm(cpus=1.5), "vm cpus 1.5 is not a whole number from 1 to 255", "cpus=2"),  # type: ignore[arg-type]
        (Vm(cpus=True), "vm cpus True is not a whole number from 1 to 255", "cpus=2"),
        (
            Vm(machine="virt"),  # type: ignore[arg-type]
            "vm machine='virt' is unknown",
            'machine= one of "pc", "q35"',
        ),
        (Vm(firmware=None), "vm firmware=None is unknown", 'firmware= one of "bios", "uefi"'),  # type: ignore[arg-type]
        (Vm(boot=[]), "vm boot=[] is unknown", 'boot= one of "kernel", "disk"'),  # type: ignore[arg-type]
        (
            Vm(way="telnet"),  # type: ignore[arg-type]
            "vm way='telnet' is unknown",
            'way= one of "agent", "ssh", "guest-agent"',
        ),
        (Vm(tpm="yes"), "vm tpm='yes' is no bool", "tpm=True"),  # type: ignore[arg-type]
        (
            Vm(uri="xen:///system"),
            "vm uri='xen:///system' is no URI of QEMU's",
            'uri="qemu+ssh://big.lab/system"',
        ),
        (
            Vm(disks="data"),  # type: ignore[arg-type]
            "vm disks='data' are no disks",
            'disks=[Disk(name="data", size_mib=1024)]',
        ),
        (
            Vm(disks=("data",)),  # type: ignore[arg-type]
            "vm disks: 'data' is no disk",
            'disks=[Disk(name="data", size_mib=1024)]',
        ),
        (
            Vm(disks=(Disk(name="a b", size_mib=1),)),
            "disk name 'a b' is not 1 to 20 letters, digits, _ and inner -",
            'Disk(name="data", size_mib=1024)',
        ),
        (
            Vm(disks=(Disk(name="carthage-seed", size_mib=1),)),
            "disk name 'carthage-seed' is one of our own",
            'name="seed"',
        ),
        (
            Vm(disks=(Disk(name="data", size_mib=0),)),
            "disk size_mib 0 is not a whole number from 1 to 67108864",
            "size_mib=1024",
        ),
        (
            Vm(disks=(Disk(name="data", size_mib=1), Disk(name="data", size_mib=2))),
            "vm has two disks named 'data'",
            'name="data-2"',
        ),
        (
            Vm(authorized_keys=("ssh-ed25519",)),
            "vm authorized_keys: 'ssh-ed25519' is no line of authorized_keys",
            'authorized_keys=[Path("id_ed25519.pub").read_text()]',
        ),
        (
            Vm(authorized_keys="-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n"),  # type: ignore[arg-type]
            "vm authorized_keys has a private key in it",
            'authorized_keys=[Path("id_ed25519.pub").read_text()]',
        ),
        (
            Ssh("-oProxyCommand=x"),
            "ssh host '-oProxyCommand=x' is no name of a host",
            'Ssh("db1.lab", user="root")',
        ),
        (
            Ssh("root@db1"),
            "ssh host 'root@db1' is no name of a host",
            'Ssh("db1.lab", user="root")',
        ),
        (Ssh("db1", user="a b"), "ssh user 'a b' is no name of a user", 'user="root"'),
        (Ssh("db1", port=0), "ssh port 0 is not from 1 to 65535", "port=22"),
    ],
)
def test_wrong_settings_are_mistakes_of_the_machine(on: Any, what: str, remedy: str) -> None:
    assert [(said, todo) for said, todo, _ in mistakes_of(on)] == [(what, remedy)]


def test_mistake_in_settings_stands_where_they_are_made() -> None:
    vm = Vm(cpus=0)
    ((_, _, line),) = mistakes_of(vm)
    assert line == vm.place.line != Machine(on=vm).place.line


def test_keys_are_taken_as_files_have_them() -> None:
    line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBq me@desk"
    given: Any = [f"{line}\n", f'from="10.0.0.1" {line}']
    assert Vm(authorized_keys=given).authorized_keys == (line, f'from="10.0.0.1" {line}')
    assert mistakes_of(Vm(authorized_keys=given)) == []


def test_too_many_disks_are_refused() -> None:
    disks = tuple(Disk(name=f"d{number}", size_mib=1) for number in range(21))
    assert mistakes_of(Vm(disks=disks))[0][0] == "vm has 21 disks, and 20 are the most"


def test_argument_that_there_is_not_gets_the_list() -> None:
    with pytest.raises(LayoutError, match=r"vm: it has no argument 'ram'; .*memory_mib=, cpus="):
        Vm(ram=512)  # type: ignore[call-arg]
    with pytest.raises(LayoutError, match="ssh: argument 'host' is missing"):
        Ssh()  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("xml", "what"),
    [
        (5, "it is no text"),
        ("<devices>", "it is no XML: mismatched tag"),
        ("", "text stands outside of elements in it"),
        ("<cpu/>more", "text stands outside of elements in it"),
        ("<domain/>", "it is a whole domain; try: the elements to add to it"),
        ("<memory>5</memory>", r"<memory> is set by pytest-carthage; try: Vm\(memory_mib=...\)"),
        ("<uuid>5</uuid>", "<uuid> is set by pytest-carthage"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><cpu/>', "a document type or an entity is declared"),
        ("<cpu>&a;</cpu>", "it is no XML: undefined entity"),
        ("</domain><domain>", "it is no XML"),
    ],
)
def test_xml_that_cannot_be_merged_is_refused(xml: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        xml_elements(xml)
    assert mistakes_of(Vm(xml=xml))


def test_xml_is_elements_of_a_domain_with_qemus_own() -> None:
    elements = xml_elements(
        "<!-- a watchdog --><devices><watchdog model='i6300esb'/></devices>"
        "<qemu:commandline><qemu:arg value='-no-hpet'/></qemu:commandline>"
    )
    assert [one.tag.rpartition("}")[2] for one in elements] == ["devices", "commandline"]
    assert mistakes_of(Vm(xml="<cpu mode='host-model'/>")) == []
