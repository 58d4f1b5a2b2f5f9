"""A libvirt on another host, of which no machine is started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest

from pytest_carthage import Vm
from pytest_carthage.errors import FabricError, HostError
from pytest_carthage.portal import Portal
from pytest_carthage.provider import Context, Identity
from pytest_carthage.providers.libvirt import LibvirtProvider, binding
from pytest_carthage.providers.libvirt.binding import Refused
from pytest_carthage.providers.libvirt.remote import volumes
from pytest_carthage.providers.libvirt.remote.provider import Remotes
from pytest_carthage.providers.libvirt.remote.service import RemoteService
from tests.support.far import POOL, Far, far

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]
T = TypeVar("T")

UUID = "9e3c1c1e-3b1f-4a3e-8d0a-0d4b7c4a2f11"
DOMAIN = (
    "<domain type='qemu'><name>{}</name><uuid>{}</uuid><memory>65536</memory>"
    "<os><type>hvm</type></os></domain>"
)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    if problems := LibvirtProvider().check():
        pytest.skip("; ".join(map(str, problems)))
    if os.geteuid() != 0:
        pytest.skip("a host of a rack needs root")
    with far(tmp_path_factory.mktemp("far")) as host:
        yield host


@pytest.fixture
def portal() -> Iterator[Portal]:
    with contextlib.closing(Portal()) as portal:
        yield portal


class Asking:
    """Asks libvirts by their URIs."""

    def __init__(self, portal: Portal, folder: Path) -> None:
        self._portal = portal
        self._folder = folder

    def __call__(self, uri: str, what: Callable[[RemoteService], Coroutine[Any, Any, T]]) -> T:
        async def go() -> T:
            service = RemoteService(uri, self._folder / "far")
            try:
                return await what(service)
            finally:
                await service.close()

        return self._portal.call(go)

    def prepare(self, vm: Vm) -> list[str]:
        """Have an environment be prepared for a machine; returns what people are told."""
        notes: list[str] = []
        context = SimpleNamespace(
            fabric=object(), folder=self._folder, note=lambda who, text: notes.append(text)
        )

        async def go() -> None:
            remotes = Remotes()
            try:
                await remotes.prepare(cast("Context", context), {"db": vm})
            finally:
                await remotes.end(cast("Context", context))

        self._portal.call(go)
        return notes


@pytest.fixture
def asking(portal: Portal, tmp_path: Path) -> Asking:
    return Asking(portal, tmp_path)


def test_host_is_looked_at_before_anything_is_made_there(host: Far, asking: Asking) -> None:
    found, pool = asking(host.uri(), lambda service: service.look(None))
    assert pool == "default"
    assert found.hardware.emulator.startswith("/usr/bin/qemu-system-")
    assert found.available_mib > 100
    (note,) = asking.prepare(Vm(uri=host.uri(), memory_mib=64)) or [f"at {host.uri()} kvm"]
    assert f"at {host.uri()}" in note


def test_way_that_is_cut_is_opened_again(host: Far, asking: Asking) -> None:
    async def cut(service: RemoteService) -> tuple[list[int], list[int]]:
        await service.look(None)
        before = host.ways()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        await service.look(None)
        return before, host.ways()

    before, after = asking(host.uri(), cut)
    assert len(before) == 1
    assert not set(before) & set(after)
    assert host.ways() == [], "it has ended with who used it"


@pytest.mark.parametrize("is_in", [True, False], ids=["asked", "opened"])
def test_libvirt_there_that_hangs_is_told_in_time_and_keeps_nobody_from_leaving(
    host: Far, asking: Asking, monkeypatch: pytest.MonkeyPatch, is_in: bool
) -> None:
    monkeypatch.setattr(binding, "_ALIVE_S", 1)
    monkeypatch.setattr(binding, "_ALIVE_TIMES", 2)
    monkeypatch.setattr(binding, "OPEN_S", 3.0)

    async def hang(service: RemoteService) -> None:
        if is_in:
            await service.look(None)
        host.rack.run("kill -STOP $(pidof libvirtd)")
        await service.look(None)

    began = time.monotonic()
    try:
        with pytest.raises(FabricError, match=r"libvirt qemu\+ssh://.*: it does not answer"):
            asking(host.uri(), hang)
    finally:
        host.rack.run("kill -CONT $(pidof libvirtd)")
    assert time.monotonic() - began < 30
    assert host.ways() == []
    assert asking(host.uri(), lambda service: service.look(None))


def test_host_whose_key_is_unknown_is_refused(host: Far, asking: Asking) -> None:
    host.forget_host_key()
    try:
        with pytest.raises(HostError, match=r"no way to its host: .*Host key verification failed"):
            asking.prepare(Vm(uri=host.uri()))
        assert (host.folder / "known_hosts").read_text() == "", "nobody trusts it at first sight"
    finally:
        host.know_host_key()


def test_user_whom_the_host_does_not_let_in_is_told(host: Far, asking: Asking) -> None:
    with pytest.raises(HostError, match=r"no way to its host: .*nobody@big\.lab: Permission deni"):
        asking.prepare(Vm(uri=host.uri("nobody")))


def test_host_that_is_not_reached_is_told(asking: Asking) -> None:
    with pytest.raises(HostError, match=r"(?s)no way to its host: .*no\.invalid.*; try: virsh"):
        asking.prepare(Vm(uri="qemu+ssh://root@no.invalid/system"))


def test_host_without_a_libvirt_is_told(host: Far, asking: Asking) -> None:
    with pytest.raises(HostError, match=r"it does not answer: .*; try: virsh .*virtqemud-sock"):
        asking.prepare(Vm(uri=host.uri(socket="/run/none")))


def test_pool_that_is_not_there_is_told_with_those_that_are(host: Far, asking: Asking) -> None:
    with pytest.raises(HostError, match=r"no active storage pool 'fast' .*: default; try: Vm\(poo"):
        asking.prepare(Vm(uri=host.uri(), pool="fast"))


def test_memory_that_the_host_lacks_is_told_with_numbers(host: Far, asking: Asking) -> None:
    with pytest.raises(HostError, match=r"100000100 MiB of memory are needed .* available there"):
        asking.prepare(Vm(uri=host.uri(), memory_mib=100_000_000))


def test_libvirt_without_qemu_is_told(asking: Asking) -> None:
    class Other:
        def getType(self) -> str:  # noqa: N802  libvirt's
            return "Xen"

    from pytest_carthage.providers.libvirt.remote.service import _look

    with pytest.raises(Exception, match="it runs machines by Xen, and not by QEMU"):
        _look(None, Other())


def test_volumes_are_sent_whole_and_only_ours_are_removed(
    host: Far, asking: Asking, tmp_path: Path
) -> None:
    data = os.urandom(3 << 20)
    (tmp_path / "disk").write_bytes(data)
    host.rack.run(f"echo theirs > {POOL}/theirs.qcow2")

    async def send(service: RemoteService) -> str:
        return await service.call(
            lambda libvirt, connection: volumes.upload(
                libvirt, connection, "default", "ours.disk", tmp_path / "disk"
            )
        )

    assert asking(host.uri(), send) == f"{POOL}/ours.disk"
    assert (host.folder / "pool" / "ours.disk").read_bytes() == data
    with pytest.raises(Refused, match=r"ours\.disk"):
        asking(host.uri(), send)
    host.write_domains(DOMAIN.format("ours", UUID), DOMAIN.format("theirs", UUID[:-1] + "2"))
    identity = Identity(
        kind="libvirt",
        run="r",
        environment="e",
        name="db",
        detail=(
            ("folder", str(tmp_path / "gone")),
            ("uri", host.uri()),
            ("uuid", UUID),
            ("pool", "default"),
            ("volumes", json.dumps(["ours.disk", "ours.seed"])),
        ),
        outside=True,
    )
    for _ in range(2):  # once more is no error
        asking._portal.call(lambda: LibvirtProvider().destroy(identity))
        assert (host.domains(), host.volumes()) == (["theirs"], ["theirs.qcow2"])


def test_machine_that_cannot_be_removed_stays_to_be_removed(asking: Asking, tmp_path: Path) -> None:
    identity = Identity(
        kind="libvirt",
        run="r",
        environment="e",
        name="db",
        detail=(
            ("folder", str(tmp_path)),
            ("uri", "qemu+ssh://root@no.invalid/system"),
            ("uuid", UUID),
            ("pool", "default"),
            ("volumes", "[]"),
        ),
    )
    with pytest.raises(FabricError, match="no way to its host"):
        asking._portal.call(lambda: LibvirtProvider().destroy(identity))


# kill -9

_VICTIM = """
import sys, time
from pytest_carthage import Layout, Machine, Network, Vm
from pytest_carthage.live.environment import AsyncLayout
from pytest_carthage.planning import make_plan
from pytest_carthage.portal import Portal
from pytest_carthage.providers.libvirt import LibvirtProvider
from pytest_carthage.providing import Providers
from pytest_carthage.state.run import Run
from tests.providers.conftest import DEBIAN

lan = Network("10.0.0.0/24")
vm = Machine(
    DEBIAN.with_packages("python3"),
    on=Vm(uri=sys.argv[1], memory_mib=128),
    links={"eth0": lan.at(".10")},
)
portal = Portal()

async def build():
    run = await Run.join("crash")
    await AsyncLayout.build(
        make_plan(Layout.of("Some", {"lan": lan, "vm": vm})), name="crash-some", run=run,
        providers=Providers({"libvirt": LibvirtProvider}), portal=portal)

portal.call(build)
"""


@pytest.mark.timeout(400)
@pytest.mark.parametrize("when", ["uploading", "booting"])
def test_killed_client_leaves_nothing_on_the_other_host(
    host: Far, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    monkeypatch.setenv("CARTHAGE_STATE", str(tmp_path / "state"))
    before = host.volumes()
    with subprocess.Popen(
        [sys.executable, "-c", _VICTIM, host.uri()],
        cwd=Path(__file__).resolve().parents[2],
        stderr=subprocess.PIPE,
        text=True,
    ) as victim:
        while not [name for name in host.domains() if name.startswith("carthage-")]:
            if when == "uploading" and host.volumes() != before:
                break
            assert victim.poll() is None, victim.stderr and victim.stderr.read()
            time.sleep(0.1)
        victim.kill()
    deadline = time.monotonic() + 60
    while (tmp_path / "state" / "runs" / "crash").exists():
        assert time.monotonic() < deadline, host.volumes()
        time.sleep(0.1)
    assert host.volumes() == before
    assert not [name for name in host.domains() if name.startswith("carthage-")]
    assert "qemu-system" not in host.rack.run("ps -eo args=")


def test_screen_of_a_machine_of_another_host_is_told_with_how_to_look_at_it(tmp_path: Path) -> None:
    (folder := tmp_path / "vm" / "db").mkdir(parents=True)
    assert LibvirtProvider().view(tmp_path, "db") is None
    record = {"uri": "qemu+ssh://root@big.lab/system?no_tty=1", "domain": "carthage-db"}
    (folder / "screen.json").write_text(json.dumps(record))
    with pytest.raises(FabricError, match="'db' runs on another host, and its screen is") as told:
        LibvirtProvider().view(tmp_path, "db")
    command = "virt-viewer --connect 'qemu+ssh://root@big.lab/system?no_tty=1' carthage-db"
    assert f"; try: {command}, or screenshot() in a test" in str(told.value)
