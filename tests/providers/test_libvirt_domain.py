"""What libvirt is told of a machine, and what it is to believe of this host: no machine starts."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from pytest_carthage import Disk, Image, Layout, Machine, Network, Vm
from pytest_carthage.errors import Problem
from pytest_carthage.planning import make_plan
from pytest_carthage.planning.plan import PlannedMachine
from pytest_carthage.provider import Describes, Identity
from pytest_carthage.providers.libvirt import LibvirtProvider, host, packages, provider, ways
from pytest_carthage.providers.libvirt.domain import Booting, Hardware, Places, domain_xml
from pytest_carthage.providers.libvirt.host import Acceleration

LAN, DMZ = Network("10.0.0.0/24", mtu=1400), Network("192.0.2.0/24")
IDENTITY = Identity(kind="libvirt", run="4711", environment="shop", name="db")
TCG, KVM = Acceleration(kind="qemu", why="for the test"), Acceleration(kind="kvm")
DIRECT = Booting(kernel=Path("/k"), initrd=Path("/i"), append="root=/dev/vda rw")
x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="is about machines of x86_64")


def planned(vm: Vm | None = None) -> PlannedMachine:
    machine = Machine(
        Image.debian("bookworm"),
        on=vm or "libvirt",
        links={"eth0": LAN.at(".10"), "dmz0": DMZ.at(".10")},
    )
    return make_plan(Layout.of("Shop", {"lan": LAN, "dmz": DMZ, "db": machine})).machines["db"]


def domain(
    vm: Vm = Vm(),  # noqa: B008  a value
    *,
    acceleration: Acceleration = TCG,
    booting: Booting = DIRECT,
    machine: PlannedMachine | None = None,
    asks_guest_agent: bool = False,
) -> ElementTree.Element:
    return ElementTree.fromstring(
        domain_xml(
            machine or planned(vm),
            vm,
            identity=IDENTITY,
            places=Places(folder=Path("/env/vm/db"), short="/run/vm/db", log=Path("/env/db.log")),
            booting=booting,
            hardware=Hardware(acceleration=acceleration, emulator="/usr/bin/qemu"),
            asks_guest_agent=asks_guest_agent,
        )
    )


def values(element: ElementTree.Element, path: str, attribute: str) -> list[str | None]:
    return [each.get(attribute) for each in element.findall(path)]


def test_domain_has_the_memory_and_processors_that_were_asked_for() -> None:
    root = domain(Vm(memory_mib=768, cpus=3))
    memory = root.find("memory")
    assert memory is not None
    assert (memory.text, memory.get("unit"), root.findtext("vcpu")) == ("768", "MiB", "3")


def test_emulated_processor_offers_no_virtual_machines_of_its_own() -> None:
    root = domain()
    assert root.findtext("cpu/model") in ("qemu64", "cortex-a57")
    if platform.machine() == "x86_64":
        assert values(root, "cpu/feature[@policy='disable']", "name") == ["svm"]


def test_domain_boots_the_kernel_directly_and_does_not_stand_after_a_panic() -> None:
    root = domain()
    assert root.findtext("os/kernel") == "/k"
    assert root.findtext("os/initrd") == "/i"
    assert (root.findtext("os/cmdline") or "").startswith("root=/dev/vda rw panic=-1 ")


def test_domain_loads_no_modules_for_hardware_of_no_use_unless_its_xml_may_have_that() -> None:
    words = "modprobe.blacklist=ata_generic,ata_piix,powernow_k8"
    assert words in (domain().findtext("os/cmdline") or "").split()
    disk = "<devices><disk type='file'><target dev='hda' bus='ide'/></disk></devices>"
    assert words not in (domain(Vm(xml=disk)).findtext("os/cmdline") or "").split()


def test_kernel_lays_programs_out_alike_where_their_code_is_translated() -> None:
    def words(acceleration: Acceleration) -> list[str]:
        return (domain(acceleration=acceleration).findtext("os/cmdline") or "").split()

    assert "norandmaps" in words(TCG)
    assert "norandmaps" not in words(KVM)


def test_domain_without_a_kernel_boots_its_disk() -> None:
    root = domain(booting=Booting())
    assert (root.find("os/kernel"), values(root, "os/boot", "dev")) == (None, ["hd"])


@x86
def test_domain_with_uefi_has_it_chosen_by_libvirt() -> None:
    os_element = domain(Vm(firmware="uefi", machine="q35")).find("os")
    assert os_element is not None
    assert os_element.get("firmware") == "efi"
    assert values(os_element, "type", "machine") == ["q35"]


@x86
def test_domain_of_type_q35_has_free_ports_behind_its_first_controller() -> None:
    models = values(domain(Vm(machine="q35")), "devices/controller[@type='pci']", "model")
    assert models == ["pcie-root", *["pcie-root-port"] * 4]


def test_domain_ends_on_the_taps_that_the_fabric_has_made() -> None:
    machine = planned()
    interfaces = domain(machine=machine).findall("devices/interface")
    assert [each.get("type") for each in interfaces] == ["ethernet", "ethernet"]
    for interface, link in zip(interfaces, machine.links, strict=True):
        assert values(interface, "mac", "address") == [link.mac]
        assert values(interface, "target", "dev") == [link.port]
        assert values(interface, "target", "managed") == ["no"]
    assert values(interfaces[0], "mtu", "size") == ["1400"]


def test_domain_has_its_own_disk_its_seed_and_those_asked_for() -> None:
    root = domain(Vm(disks=(Disk(name="data", size_mib=64), Disk(name="more", size_mib=64))))
    assert values(root, "devices/disk/source", "file") == [
        "/env/vm/db/disk.qcow2",
        "/env/vm/db/seed.img",
        "/env/vm/db/disk-data.qcow2",
        "/env/vm/db/disk-more.qcow2",
    ]
    assert values(root, "devices/disk/target", "dev") == ["vda", "vdb", "vdc", "vdd"]
    serials = [each.findtext("serial") for each in root.findall("devices/disk")]
    assert serials == [None, "carthage-seed", "data", "more"]
    assert [each.find("readonly") is not None for each in root.findall("devices/disk")] == [
        False,
        True,
        False,
        False,
    ]


def test_domain_has_sockets_whose_paths_the_kernel_takes() -> None:
    root = domain(Vm(graphics=True))
    paths = values(root, "devices/channel/source", "path")
    assert paths == ["/run/vm/db/agent.sock", "/run/vm/db/qga.sock"]
    assert values(root, "devices/channel/target", "name") == [
        "org.pytest-carthage.agent",
        "org.qemu.guest_agent.0",
    ]
    assert values(root, "devices/graphics", "socket") == ["/run/vm/db/vnc.sock"]
    assert values(root, "devices/graphics", "port") == [None]
    assert values(root, "devices/graphics", "passwd") == [None]
    assert values(root, "devices/serial/source", "path") == ["/run/vm/db/serial.sock"]


def test_serial_port_comes_to_the_recorder_and_comes_again_when_that_was_killed() -> None:
    root = domain()
    assert values(root, "devices/serial/source", "mode") == ["connect"]
    assert values(root, "devices/serial/source/reconnect", "enabled") == ["yes"]
    assert root.find("devices/serial/log") is None, "nobody bounds what QEMU writes itself"


def test_emulated_domain_keeps_little_of_what_it_has_translated() -> None:
    root = domain()
    assert (root.get("type"), root.findtext("features/tcg/tb-cache")) == ("qemu", "96")


def test_domain_on_kvm_has_the_processors_of_the_host() -> None:
    root = domain(acceleration=KVM)
    assert root.get("type") == "kvm"
    assert values(root, "cpu", "mode") == ["host-passthrough"]
    assert root.find("features/tcg") is None


def test_domain_has_a_tpm_and_graphics_only_where_they_are_asked_for() -> None:
    plain, full = domain(), domain(Vm(tpm=True, graphics=True))
    for name in ("tpm", "graphics", "video"):
        assert plain.find(f"devices/{name}") is None
        assert full.find(f"devices/{name}") is not None
    assert values(full, "devices/tpm/backend", "version") == ["2.0"]


def test_own_xml_adds_devices_and_replaces_other_elements() -> None:
    root = domain(
        Vm(
            xml="<clock offset='localtime'/>"
            "<devices><watchdog model='i6300esb' action='reset'/></devices>"
        )
    )
    assert values(root, "clock", "offset") == ["localtime"]
    assert values(root, "devices/watchdog", "model") == ["i6300esb"]
    assert len(root.findall("devices")) == 1


def test_own_xml_of_qemu_keeps_its_name_space() -> None:
    root = domain(Vm(xml="<qemu:commandline><qemu:arg value='-s'/></qemu:commandline>"))
    name = "{http://libvirt.org/schemas/domain/qemu/1.0}commandline"
    assert root.find(name) is not None


def test_domain_is_called_by_the_same_uuid_again_and_another_one_elsewhere() -> None:
    def uuid_in(identity: Identity) -> str | None:
        text = domain_xml(
            planned(),
            Vm(),
            identity=identity,
            places=Places(folder=Path("/f"), short="/s", log=Path("/l")),
            booting=DIRECT,
            hardware=Hardware(acceleration=TCG, emulator="/usr/bin/qemu"),
        )
        return ElementTree.fromstring(text).findtext("uuid")

    assert uuid_in(IDENTITY) == uuid_in(IDENTITY)
    assert uuid_in(IDENTITY) != uuid_in(replace(IDENTITY, run="4712"))


# the host


@pytest.fixture
def processors(tmp_path: Path) -> Path:
    return tmp_path / "cpuinfo"


@x86
@pytest.mark.parametrize("flag", ["vmx", "svm"])
def test_kvm_is_trusted_where_processors_have_it(processors: Path, flag: str) -> None:
    processors.write_text(f"processor\t: 0\nflags\t\t: fpu {flag} sse\n")
    found = host.acceleration(Path(os.devnull), processors)
    assert (found.kind, str(found)) == ("kvm", "processors by KVM")


@x86
def test_kvm_that_processors_do_not_have_is_not_trusted(processors: Path) -> None:
    processors.write_text("processor\t: 0\nvmx flags\t: vmx\nflags\t\t: fpu sse\n")
    found = host.acceleration(Path(os.devnull), processors)
    assert found.kind == "qemu"
    assert str(found) == (
        "processors are emulated, about ten times slower: /dev/null is there, but the processors "
        "have neither vmx nor svm"
    )


def test_kvm_that_is_not_there_is_told(tmp_path: Path) -> None:
    found = host.acceleration(tmp_path / "kvm")
    assert (found.kind, found.why) == ("qemu", f"there is no {tmp_path / 'kvm'}")


def test_kvm_of_others_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *args: False)
    (tmp_path / "kvm").touch()
    found = host.acceleration(tmp_path / "kvm")
    assert found.why == f"{tmp_path / 'kvm'} is not writable for this user"


def test_target_says_whether_it_emulates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "acceleration", lambda: TCG)
    target = LibvirtProvider()
    assert isinstance(target, Describes)
    assert target.describe().endswith("ten times slower: for the test")


def test_target_lists_what_reads_screens_for_whoever_asks_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bool] = []

    def missing(who: str, *, screens: bool, **more: bool) -> list[Problem]:
        asked.append(screens)
        return []

    monkeypatch.setattr(packages, "missing", missing)
    LibvirtProvider().check()
    LibvirtProvider().check(make_plan(Layout.of("Shop", {"db": Machine(on="netns")})))
    assert asked == [True, False]


def test_memory_is_read_as_the_kernel_tells_it(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable:    2097152 kB\n")
    assert host.available_mib(meminfo) == 2048


@pytest.mark.parametrize(
    ("vm", "what"),
    [
        (Vm(uri="qemu+ssh://big.lab/session"), ": uri=.*needs the libvirt of a whole host"),
    ],
)
def test_what_is_declared_and_not_made_is_told_before_anything_is_built(vm: Vm, what: str) -> None:
    machine = Machine(Image.debian("bookworm"), on=vm)
    problems = LibvirtProvider().check(make_plan(Layout.of("Shop", {"db": machine})))
    (text,) = [str(one) for one in problems if "'db'" in str(one)]
    assert re.search(f"machine 'db'{what}.*; try: qemu.ssh://", text)


@pytest.mark.parametrize(
    ("vm", "package"), [(Vm(firmware="uefi"), "ovmf"), (Vm(tpm=True), "swtpm")]
)
def test_what_a_machine_asks_of_the_host_is_told_before_anything_is_built(
    vm: Vm, package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(packages, "_FIRMWARE", tmp_path)
    monkeypatch.setattr(packages, "PATH", str(tmp_path))
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="x86_64"))
    for each, expected in ((vm, [package]), (Vm(), [])):
        machine = Machine(Image.debian("bookworm"), on=each)
        problems = LibvirtProvider().check(make_plan(Layout.of("Shop", {"db": machine})))
        partial = [problem.packages[0] for problem in problems if problem.is_partial]
        assert partial == expected


@pytest.mark.parametrize(
    ("vm", "chosen"),
    [
        (Vm(memory_mib=768), ""),
        (Vm(machine="q35", firmware="uefi", tpm=True), "machine='q35', firmware='uefi', tpm=True"),
        (Vm(xml="<devices/>"), "xml=..."),
    ],
)
def test_what_libvirt_looks_at_before_anything_is_built_is_named(vm: Vm, chosen: str) -> None:
    assert provider._chosen(vm) == chosen


def test_way_of_ssh_wants_asyncssh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "missing", lambda: "asyncssh is not installed")
    machine = Machine(Image.debian("bookworm"), on=Vm(way="ssh"))
    problems = LibvirtProvider().check(make_plan(Layout.of("Shop", {"db": machine})))
    (text,) = [str(one) for one in problems if "'db'" in str(one)]
    assert "machine 'db' is to be asked by ssh, and asyncssh is not installed" in text
    assert "pip install 'pytest-carthage[ssh]'" in text
