"""The libvirtd of an environment, of which no machine is started."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest

from pytest_carthage import Image, Layout, Machine, Vm
from pytest_carthage.errors import CarthageError, CreationError, HostError
from pytest_carthage.fabric.host import privilege
from pytest_carthage.planning import make_plan
from pytest_carthage.portal import Portal
from pytest_carthage.provider import Context, Identity
from pytest_carthage.providers.libvirt import LibvirtProvider, binding, host, lives
from pytest_carthage.providers.libvirt.binding import Refused
from pytest_carthage.providers.libvirt.service import Service
from pytest_carthage.state.run import Run, new_name

T = TypeVar("T")
pytestmark = pytest.mark.real

#: of virDomainEventStoppedDetailType
FAILED = 5

DOMAIN, LEFT, MISSED, RUNNING = (
    f"<domain type='qemu'><name>{name}</name><memory>65536</memory><os><type>hvm</type></os>"
    "</domain>"
    for name in ("a", "left", "missed", "db")
)


class Bench:
    """A fabric with a libvirtd in it."""

    def __init__(self, portal: Portal, of: Service, notes: list[str]) -> None:
        self.service = of
        #: what a person was told
        self.notes = notes
        self._portal = portal

    def call(self, function: Callable[[Any, Any], T]) -> T:
        return self._portal.call(lambda: self.service.call(function))

    def ask(self, whom: Service, function: Callable[[Any, Any], T]) -> T:
        return self._portal.call(lambda: whom.call(function))

    def let_go(self) -> None:
        """Close the connection to it: the next one who asks opens another one."""
        self._portal.call(self.service.connection.close)

    @contextlib.contextmanager
    def another(self) -> Iterator[Service]:
        """Somebody else who asks it, and leaves at the end."""
        other = Service(self.service.environment, self.service._fabric)
        yield other
        self._portal.call(other.close)

    def validate(self, vm: Vm) -> None:
        """Have a provider validate a machine that has this."""
        machine = Machine(Image.debian("bookworm"), on=vm)
        context = SimpleNamespace(
            plan=make_plan(Layout.of("Shop", {"db": machine})),
            identity=Identity(kind="libvirt", run="r", environment="e", name=""),
            folder=self.service.environment,
            logs=self.service.environment,
        )
        validate = LibvirtProvider()._validate
        self._portal.call(lambda: validate(cast("Context", context), self.service))

    def pids(self) -> list[int]:
        """Its process, as the host counts."""
        return [pid for pid in pids("libvirtd") if self._is_its(pid)]

    def _is_its(self, pid: int) -> bool:
        try:
            cwd = Path(f"/proc/{pid}/cwd").readlink()
        except FileNotFoundError:  # it has just ended
            return False
        return str(cwd).endswith(str(self.service.folder))


def _is_named(pid: int, domain: str) -> bool:
    return f"guest={domain},".encode() in Path(f"/proc/{pid}/cmdline").read_bytes()


def wait_until(condition: Callable[[], object], *, within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def pids(program: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if path.read_text().strip() == program:
                found.append(int(path.parent.name))
    return found


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    if problems := host.check():
        pytest.skip("; ".join(map(str, problems)))
    with pytest.MonkeyPatch.context() as patch, contextlib.closing(Portal()) as portal:
        patch.setenv("CARTHAGE_STATE", str(tmp_path_factory.mktemp("libvirt") / "state"))

        notes: list[str] = []

        async def go() -> tuple[Run, Service]:
            run = await Run.join(new_name())
            folder, fabric = await run.environment(
                f"{run.name}-bench", {}, unprivileged=not privilege.is_privileged()
            )
            made = Service(folder, fabric, note=notes.append)
            await made.start()
            return run, made

        async def leave() -> None:
            await made.close()
            with contextlib.suppress(CarthageError):  # a test may have killed its fabric
                await run.destroy(f"{run.name}-bench")
            run.close()

        run, made = portal.call(go)
        try:
            yield Bench(portal, made, notes)
        finally:
            portal.call(leave)


def test_libvirtd_of_an_environment_has_no_machines_of_the_host(bench: Bench) -> None:
    assert bench.call(lambda libvirt, connection: connection.listAllDomains()) == []
    assert bench.call(lambda libvirt, connection: connection.listAllNetworks()) == []


def test_libvirtd_shows_nothing_of_itself_to_the_host(bench: Bench) -> None:
    (pid,) = bench.pids()
    for folder in ("/run/libvirt", "/var/lib/libvirt", "/var/cache/libvirt"):
        there, here = Path(f"/proc/{pid}/root{folder}"), Path(folder)
        assert there.is_dir()
        assert not here.exists() or not here.samefile(there)
    assert not Path(f"/proc/{pid}/ns/net").samefile("/proc/self/ns/net")
    # whoever may enter the environment's folder can ask it, as with virsh
    assert (bench.service.folder / "run" / "libvirt-sock").is_socket()


def test_what_libvirt_refuses_is_told_in_its_words(bench: Bench) -> None:
    with pytest.raises(Refused, match="no domain with matching name 'nobody'") as refused:
        bench.call(lambda libvirt, connection: connection.lookupByName("nobody"))
    assert not refused.value.is_gone


def test_libvirtd_that_was_killed_is_started_again(bench: Bench) -> None:
    bench.call(lambda libvirt, connection: connection.defineXML(DOMAIN).name())
    (pid,) = bench.pids()
    os.kill(pid, signal.SIGKILL)
    names = bench.call(
        lambda libvirt, connection: [one.name() for one in connection.listAllDomains()]
    )
    assert names == ["a"]
    assert bench.pids() != [pid]


def test_libvirtd_that_is_killed_while_nobody_asks_is_started_again_and_tells_what_it_missed(
    bench: Bench,
) -> None:
    heard: list[tuple[int, int]] = []
    bench.call(lambda libvirt, connection: connection.defineXML(MISSED).create())
    bench.service.connection.listen("missed", lambda *event: heard.append(event))
    bench.notes.clear()
    (libvirtd,) = bench.pids()
    emulators = [pid for pid in pids("qemu-system-x86") if _is_named(pid, "missed")]
    assert len(emulators) == 1
    os.kill(libvirtd, signal.SIGKILL)
    os.kill(emulators[0], signal.SIGKILL)
    wait_until(lambda: bench.notes and (lives.FOUND_OFF, FAILED) in heard)
    assert bench.pids() not in ([], [libvirtd])
    assert bench.notes[0].startswith("its libvirtd was ended by signal 9, and was started again")
    bench.service.connection.forget("missed")
    bench.call(lambda libvirt, connection: connection.lookupByName("missed").undefine())


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who hangs is known to in seconds."""
    monkeypatch.setattr(binding, "_ALIVE_S", 1)
    monkeypatch.setattr(binding, "_ALIVE_TIMES", 2)
    monkeypatch.setattr(binding, "OPEN_S", 3.0)


@pytest.mark.parametrize("is_in", [True, False], ids=["asked", "opened"])
def test_libvirtd_that_hangs_is_killed_and_whoever_asks_has_another_one(
    bench: Bench, impatient: None, is_in: bool
) -> None:
    bench.let_go()
    if is_in:
        bench.call(lambda libvirt, connection: connection.getLibVersion())
    bench.notes.clear()
    (libvirtd,) = bench.pids()
    os.kill(libvirtd, signal.SIGSTOP)
    began = time.monotonic()
    assert bench.call(lambda libvirt, connection: connection.getLibVersion())
    assert time.monotonic() - began < 20
    assert bench.pids() not in ([], [libvirtd])
    assert bench.notes == [
        "its libvirtd did not answer any more, and was killed, and was started again; log: "
        f"{bench.service.folder / 'libvirtd.log'}"
    ]
    bench.let_go()


def test_libvirtd_that_hangs_while_nobody_asks_is_killed(bench: Bench, impatient: None) -> None:
    bench.let_go()
    bench.call(lambda libvirt, connection: connection.getLibVersion())
    bench.notes.clear()
    (libvirtd,) = bench.pids()
    os.kill(libvirtd, signal.SIGSTOP)
    wait_until(lambda: bench.notes)
    assert bench.pids() not in ([], [libvirtd])
    bench.let_go()


def test_libvirtd_that_hangs_keeps_nobody_from_leaving(bench: Bench, impatient: None) -> None:
    bench.let_go()
    (libvirtd,) = bench.pids()
    with bench.another() as other:
        bench.ask(other, lambda libvirt, connection: connection.getLibVersion())
        os.kill(libvirtd, signal.SIGSTOP)
        began = time.monotonic()
    assert time.monotonic() - began < 20
    wait_until(lambda: bench.pids() != [libvirtd])
    bench.call(lambda libvirt, connection: connection.getLibVersion())
    bench.let_go()


def test_libvirtd_that_does_not_start_again_is_told_to_who_asks_then(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(host, "find_libvirtd", lambda: "/bin/false")
        (libvirtd,) = bench.pids()
        os.kill(libvirtd, signal.SIGKILL)
        with pytest.raises(HostError, match="the environment's libvirtd ended; it printed"):
            bench.call(lambda libvirt, connection: connection.getLibVersion())
    assert bench.call(lambda libvirt, connection: connection.getLibVersion())


def test_libvirtd_that_does_not_start_is_told_with_what_it_printed(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "libvirtd"
    program.write_text("#!/bin/sh\necho no room for it >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(host, "find_libvirtd", lambda: str(program))
    other = Service(tmp_path, bench.service._fabric)
    with pytest.raises(HostError, match=r"libvirtd ended; it printed: no room for it; try: "):
        bench._portal.call(other.start)


# what an author has written for it


def test_own_xml_that_libvirt_rejects_is_told_before_a_machine_is_made(bench: Bench) -> None:
    with pytest.raises(
        CreationError,
        match=r"(?s)machine 'db' of layout 'Shop': libvirt rejects its domain, which has "
        r"xml=\.\.\.: .*Extra element devices.*; try: ",
    ):
        bench.validate(Vm(xml="<devices><teapot/></devices>"))


def test_own_xml_that_libvirt_takes_leaves_no_domain(bench: Bench) -> None:
    bench.validate(Vm(xml="<devices><watchdog model='i6300esb' action='reset'/></devices>"))
    names = bench.call(lambda libvirt, connection: [d.name() for d in connection.listAllDomains()])
    assert not [name for name in names if name.startswith("db")]


def test_own_xml_is_looked_at_without_touching_a_machine_of_that_name(bench: Bench) -> None:
    bench.call(lambda libvirt, connection: connection.createXML(RUNNING).name())
    bench.validate(Vm(xml="<devices><watchdog model='i6300esb' action='reset'/></devices>"))
    bench.call(lambda libvirt, connection: connection.lookupByName("db").destroy())


# the end


def test_nothing_is_left_when_the_fabric_is_killed(bench: Bench) -> None:
    bench.call(lambda libvirt, connection: connection.createXML(LEFT).name())
    (libvirtd,) = bench.pids()
    first = _first_of_fabric(libvirtd)
    ours = [pid for pid in pids("qemu-system-x86") if _first_of_fabric(pid) == first]
    assert ours
    watched = [os.pidfd_open(pid) for pid in (libvirtd, *ours)]
    os.kill(first, signal.SIGKILL)
    for fd in watched:
        assert select.select([fd], [], [], 20)[0]
        os.close(fd)


def _first_of_fabric(pid: int) -> int:
    """The first process of the PID namespace that a process is in; 0: it is the host's."""
    while pid > 1:
        status = Path(f"/proc/{pid}/status").read_text()
        if status.partition("NSpid:")[2].split("\n")[0].split()[1:] == ["1"]:
            return pid
        pid = int(status.partition("PPid:")[2].split()[0])
    return 0
