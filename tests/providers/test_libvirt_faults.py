"""What goes wrong with virtual machines is told with the console's last lines, and leaves nothing.

One machine is booted, and stands for all tests that need one; those that fail are added beside it.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import Image, Layout, LayoutError, Machine, Network, Vm
from pytest_carthage.errors import CarthageError, CreationError, HostError
from pytest_carthage.images.builder import ensure
from pytest_carthage.images.seeds.seed import make_seed
from pytest_carthage.live.packets.taps import interfaces_of, open_socket
from pytest_carthage.portal import Portal
from pytest_carthage.providers.libvirt import LibvirtProvider, disks, recipes, ways
from pytest_carthage.providers.netns import NetnsProvider
from pytest_carthage.roles import DhcpServer
from pytest_carthage.screens import recognition
from pytest_carthage.screens.picture import is_png
from tests.providers.conftest import DEBIAN
from tests.support.layouts import Build, Factories, building

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

MAC = "02:00:00:00:00:77"
#: with a Python that the agent can run by; :data:`DEBIAN` has the minimal one
GUEST = DEBIAN.with_packages("python3")


class Empty(Layout):
    """Machines that cannot come to life are added to it."""

    lan = Network("10.0.0.0/24")
    asked = Network("fd00::/64")
    other = Machine(
        on="netns",
        links={"eth0": lan.at(".10", mac=MAC), "eth1": asked.at("::1")},
        roles=[DhcpServer(networks=("asked",))],
    )


class Lab(Layout):
    lan = Network("10.0.0.0/24")
    vm = Machine(GUEST, on=Vm(), links={"eth0": lan.at(".10")}, ready_timeout_s=240)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("faults") / "state"
        patch.setenv("CARTHAGE_STATE", str(folder))
        # each of these boots by itself
        patch.setattr(recipes, "why_not", lambda recipe: "for the test")
        yield folder
        assert_none(folder)


@pytest.fixture(scope="module")
def build(state: Path) -> Iterator[Build]:
    if problems := LibvirtProvider().check():
        pytest.skip("; ".join(map(str, problems)))
    kinds: Factories = {"libvirt": LibvirtProvider, "netns": NetnsProvider}
    with contextlib.closing(Portal()) as portal, building(portal, kinds) as build:
        portal.call(lambda: ensure(GUEST, portal=portal, note=lambda who, text: None))
        yield build


@pytest.fixture(scope="module")
def empty(build: Build) -> Empty:
    return build(Empty)


@pytest.fixture(scope="module")
def lab(build: Build) -> Lab:
    return build(Lab)


# what there is


def processes(state: Path, program: str) -> list[int]:
    """Processes of a program that work in a folder below this one, or were told of it."""
    there = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            told = [str((path / "cwd").readlink()), (path / "cmdline").read_text()]
            name = (path / "comm").read_text().strip()
            if name.startswith(program[:15]) and any(str(state) in text for text in told):
                there.append(int(path.name))
    return there


def emulators(state: Path) -> list[int]:
    return processes(state, "qemu-system-")


def assert_none(state: Path, *, within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while left := [
        *emulators(state),
        *processes(state, "libvirtd"),
        *(state / "runs").glob("[!.]*"),
    ]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def ports(lab: Layout) -> set[str]:
    """Interfaces of the fabric."""

    async def look() -> set[str]:
        family, kind = socket.AF_NETLINK, socket.SOCK_RAW
        fabric = lab.aio.fabric
        with await open_socket(fabric, None, family, kind, socket.NETLINK_ROUTE) as sock:
            return {interface.name for interface in interfaces_of(sock)}

    return lab.aio.portal.call(look)


def refusal_of(lab: Layout, state: Path, machine: Machine, name: str) -> str:
    """Why a machine cannot be added; nothing of it is left, on the host."""
    before = ports(lab)
    with pytest.raises((CreationError, HostError)) as caught:
        lab.add(machine, name=name)
    assert not emulators(state)
    assert not list(state.glob(f"runs/*/envs/*/vm/{name}"))
    assert ports(lab) == before
    assert name not in lab.aio.plan.machines
    return str(caught.value)


def extra(vm: Vm, *, image: Image = GUEST, ready_timeout_s: float = 240) -> Machine:
    return Machine(image, on=vm, links={"eth0": Empty.lan.at()}, ready_timeout_s=ready_timeout_s)


# machines that cannot come to life


def test_too_little_memory_is_refused_with_numbers(empty: Empty, state: Path) -> None:
    text = refusal_of(empty, state, extra(Vm(memory_mib=8 << 20)), "giant")
    assert re.search(
        r"8388708 MiB of memory are needed \(giant 8388608 MiB, and 100 MiB beside each\), "
        r"and \d+ MiB are (available|free: .*); try: on=Vm\(memory_mib=",
        text,
    )


class Odd(Layout):
    vm = Machine(GUEST, on=Vm(xml="<devices><watchdog model='lightning'/></devices>"))


def test_xml_that_libvirt_rejects_is_told_in_its_words(build: Build, state: Path) -> None:
    with pytest.raises(CreationError, match=r"machine 'vm' of layout 'Odd': libvirt rejects its"):
        build(Odd)
    assert not emulators(state)


def test_second_machine_with_one_mac_is_refused_before_anything_is_made(empty: Empty) -> None:
    twin = Machine(GUEST, on=Vm(), links={"eth0": Empty.lan.at(mac=MAC)})
    with pytest.raises(LayoutError, match=f"mac '{MAC}' .* is taken by machine 'other'"):
        empty.add(twin, name="twin")


def test_machine_that_nobody_in_it_asks_for_is_refused_before_it_boots(
    empty: Empty, state: Path
) -> None:
    links = {"eth0": Empty.asked.at("::9", dhcp=True)}  # and no udev, without which no networkd
    text = refusal_of(empty, state, Machine(GUEST, on=Vm(), links=links), "mute")
    assert "machine 'mute' of layout 'Empty': link 'eth0' to network 'asked' asks by DHCPv6" in text
    assert 'try: packages=["systemd-sysv", "udev"], or slaac=True' in text


def test_damaged_seed_ends_the_boot_and_is_told_with_the_consoles_end(
    empty: Empty, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*args: Any, **more: Any) -> bytes:
        seed = bytearray(make_seed(*args, **more))
        seed[5000] ^= 1
        return bytes(seed)

    monkeypatch.setattr(disks, "make_seed", damaged)
    text = refusal_of(empty, state, extra(Vm()), "damaged")
    assert "machine 'damaged' of layout 'Empty': it went off while it started" in text
    assert "carthage: the seed on /dev/vdb is damaged" in text
    monkeypatch.setattr(disks, "make_seed", lambda *args, **more: b"\xa5" * (1 << 20))
    text = refusal_of(empty, state, extra(Vm()), "seedless")
    assert "carthage: the seed disk /dev/vdb has no seed" in text


def test_disk_that_does_not_boot_is_told_with_the_consoles_end(
    empty: Empty, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = disks.new_disk
    monkeypatch.setattr(disks, "new_disk", lambda path, above=None, **more: made(path, size_mib=64))
    text = refusal_of(empty, state, extra(Vm(), ready_timeout_s=60), "blank")
    assert text.startswith("machine 'blank' of layout 'Empty': it")
    assert "; console: " in text
    assert "/dev/vda" in text


@pytest.mark.emulated
def test_screen_of_a_machine_that_does_not_boot_is_kept(
    empty: Empty, state: Path, tmp_path: Path
) -> None:
    tree, disk = tmp_path / "tree", tmp_path / "disk.img"
    for name in ("bin", "usr/local/bin", "etc"):
        (tree / name).mkdir(parents=True)
    (tree / "usr/local/bin/python3").touch(mode=0o755)
    # files, and no boot loader
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", tree, disk, "64M"], check=True)
    vm = Vm(graphics=True, way="agent")
    machine = extra(vm, image=Image.disk(disk), ready_timeout_s=8)
    text = refusal_of(empty, state, machine, "dark")
    assert "machine 'dark' of layout 'Empty': its agent did not answer in " in text
    picture = (Path(empty.aio.logs) / "dark.png").read_bytes()
    assert is_png(picture)
    if recognition.lacks() is None:  # as in "Boot failed: not a bootable disk"
        shown = empty.aio.portal.call(lambda: recognition.recognise(picture))
        assert recognition.shows(shown, "bootable"), shown


def test_machine_whose_agent_never_answers_is_told_with_the_consoles_end(
    empty: Empty, state: Path
) -> None:
    text = refusal_of(empty, state, extra(Vm(), ready_timeout_s=2), "mute")
    assert "machine 'mute' of layout 'Empty': its agent did not answer in " in text
    assert "; console: " in text


def test_image_without_a_python_for_the_agent_is_told_at_once(empty: Empty, state: Path) -> None:
    text = refusal_of(empty, state, extra(Vm(), image=DEBIAN), "minimal")
    assert "machine 'minimal' of layout 'Empty': nobody in it can be asked for anything" in text
    assert "try: an image with python3" in text


@pytest.mark.emulated
def test_agent_that_cannot_run_is_told_at_once_with_the_reason(
    empty: Empty, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "_why_no_agent", lambda trees: "")
    text = refusal_of(empty, state, extra(Vm(), image=DEBIAN), "minimal")
    assert "its agent cannot run: ModuleNotFoundError: No module named 'resource'" in text
    assert "try: an image with python3, of which python3-minimal is not enough" in text


# one that lives


def test_flood_on_the_console_hurts_nobody(lab: Lab) -> None:
    lab.vm.run("timeout 4 sh -c 'yes flooded > /dev/console' || true", timeout_s=60)
    assert lab.vm.run("echo here").stdout == "here\n"
    log = next(Path(lab.aio.logs).glob("vm.log"))
    assert log.stat().st_size < 64 << 20
    assert "flooded" in lab.vm.logs()


def test_machine_goes_on_without_its_libvirtd_which_is_started_again(lab: Lab) -> None:
    environment = Path(lab.aio.logs).parent
    (before,) = processes(environment, "libvirtd")  # which shows that they are found
    os.kill(before, signal.SIGKILL)
    assert lab.vm.run("echo here").stdout == "here\n"
    lab.vm.freeze().heal()
    assert lab.vm.run("echo here").stdout == "here\n"
    (after,) = processes(environment, "libvirtd")
    assert after != before


def deputy(lab: Lab) -> int:
    """The process that answers for the machine."""
    (process,) = [
        process
        for process in processes(Path(lab.aio.logs).parent, "python")
        if "far.deputy" in Path(f"/proc/{process}/cmdline").read_text()
    ]
    return process


def test_deputy_that_is_killed_is_told_at_once_to_whom_it_served_and_has_a_successor(
    lab: Lab,
) -> None:
    before = deputy(lab)
    threading.Timer(2, os.kill, (before, signal.SIGKILL)).start()
    began = time.monotonic()
    with pytest.raises(
        CarthageError,
        match=r"machine 'vm' of layout 'Lab': its deputy, the process of this host that answers "
        r"for it, ended at .*, and another one takes its place; what it was doing is ended; "
        r"try: again",
    ):
        lab.vm.run("exec sleep 4711", timeout_s=120)
    assert time.monotonic() - began < 20
    assert lab.vm.run("pgrep -f '^sleep 4711' || echo none").stdout == "none\n"
    assert deputy(lab) != before


def test_deputy_that_is_killed_while_nobody_asks_has_a_successor(lab: Lab) -> None:
    before = deputy(lab)
    os.kill(before, signal.SIGKILL)
    assert lab.vm.run("echo here", timeout_s=60).stdout == "here\n"
    assert deputy(lab) != before
    assert lab.vm.way == "agent"


def test_agent_that_is_killed_in_the_machine_has_a_successor(lab: Lab) -> None:
    with pytest.raises(CarthageError, match="something in it has ended the agent, which was doing"):
        lab.vm.run("systemctl kill -s KILL pytest-carthage-agent; sleep 60", timeout_s=60)
    assert lab.vm.run("echo here", timeout_s=60).stdout == "here\n"


def test_emulator_that_is_killed_ends_the_machine_which_says_so(lab: Lab, state: Path) -> None:
    (before,) = emulators(state)
    os.kill(before, signal.SIGKILL)
    with pytest.raises(CarthageError, match=r"machine 'vm' of layout 'Lab'") as caught:
        lab.vm.run("sleep 60", timeout_s=60)
    said = str(caught.value)
    deadline = time.monotonic() + 30  # the end of its emulator is heard of by an event
    while "its emulator ended" not in said:
        assert time.monotonic() < deadline, said
        with pytest.raises(CarthageError) as told:
            lab.vm.run("true", timeout_s=60)
        said = str(told.value)
    assert "; try: " in said
    assert not emulators(state)


# who has started them is killed

VICTIM = """
import asyncio, sys, time
from pytest_carthage import Layout, Machine, Network, Vm
from pytest_carthage.live.environment import AsyncLayout
from pytest_carthage.planning import make_plan
from pytest_carthage.portal import Portal
from pytest_carthage.providers.libvirt import LibvirtProvider, recipes
from pytest_carthage.providers.libvirt.machine import LibvirtMachine
from pytest_carthage.providing import Providers
from pytest_carthage.state.run import Run
from tests.providers.test_libvirt_faults import GUEST

async def at_once(self):  # what its kernel does is no business of this test
    print("started", flush=True)
    if sys.argv[1] == "started":
        await asyncio.sleep(600)

LibvirtMachine.wait_until_it_answers = at_once
recipes.why_not = lambda recipe: "for the test"

class Lab(Layout):
    lan = Network("10.0.0.0/24")
    a = Machine(GUEST, on=Vm(), links={"eth0": lan.at(".1")})
    b = Machine(GUEST, on=Vm(), links={"eth0": lan.at(".2")})

portal = Portal()

async def build():
    run = await Run.join("crash")
    print("joined", flush=True)
    layout = await AsyncLayout.build(
        make_plan(Lab), name="crash-lab", run=run,
        providers=Providers({"libvirt": LibvirtProvider}), portal=portal)
    print("built", flush=True)
    machine = layout.machines["a"]._means
    if sys.argv[1] == "snapshotting":
        print("snapshotting", flush=True)
        await machine.snapshot("s")
    if sys.argv[1] == "stopping":
        print("stopping", flush=True)
        await machine.stop(timeout_s=30)
    if sys.argv[1] == "ending":
        print("ending", flush=True)
        await layout.close()
    await asyncio.sleep(600)

portal.call(build)
"""


@pytest.mark.parametrize(
    ("line", "delay_s"),
    [
        ("joined", 0.3),
        pytest.param("joined", 1.5, marks=pytest.mark.emulated),
        ("started", 0.0),
        pytest.param("started", 0.5, marks=pytest.mark.emulated),
        pytest.param("snapshotting", 0.1, marks=pytest.mark.emulated),
        pytest.param("stopping", 0.3, marks=pytest.mark.emulated),
        pytest.param("ending", 0.05, marks=pytest.mark.emulated),
    ],
)
def test_client_that_is_killed_leaves_nothing(
    build: Build, line: str, delay_s: float, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    with subprocess.Popen(
        [sys.executable, "-c", VICTIM, line],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "CARTHAGE_STATE": str(state)},
        cwd=Path(__file__).resolve().parents[2],
    ) as victim:
        assert victim.stdout is not None
        while (seen := victim.stdout.readline().strip()) != line:
            assert seen, f"ended before {line!r}"
        time.sleep(delay_s)  # the moment is the parameter
        if line == "started":
            assert emulators(state), "this test looks at the wrong place"
        victim.kill()
    assert_none(state)
