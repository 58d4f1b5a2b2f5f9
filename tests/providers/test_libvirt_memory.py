"""Memory that libvirt saved, as another domain is given it; and what a machine's snapshots are."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_carthage.channels.far.inside import identity
from pytest_carthage.channels.far.program import agent_program
from pytest_carthage.errors import FabricError
from pytest_carthage.fabric.wire import channel, frames
from pytest_carthage.providers.libvirt import clones, memory, snapshots
from pytest_carthage.providers.libvirt.memory import Saved

LIBVIRT: Any = SimpleNamespace(
    VIR_DOMAIN_SAVE_RUNNING=2,
    VIR_DOMAIN_RUNNING=1,
    VIR_DOMAIN_SNAPSHOT_REVERT_RUNNING=1,
    VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL=1024,
)
PAGES = os.urandom(3 << 20)


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    path = tmp_path / "saved"
    path.write_bytes(Saved(path, 0, b"<cookie/>").head("<domain>old</domain>") + PAGES)
    return Saved.read(path)


def test_saved_memory_is_read_with_what_libvirt_has_to_know(saved: Saved) -> None:
    assert saved.cookie == b"<cookie/>"
    assert saved.path.read_bytes()[saved.offset :] == PAGES


def test_restored_domain_has_the_new_xml_and_the_old_memory(saved: Saved, tmp_path: Path) -> None:
    read = {}

    def restore(path: str, xml: None, flags: int) -> None:
        read["all"] = Path(path).read_bytes()

    connection = SimpleNamespace(restoreFlags=restore)
    memory.restore(LIBVIRT, connection, saved, "<domain>new</domain>", tmp_path / "pipe")
    copy = tmp_path / "copy"
    copy.write_bytes(read["all"])
    again = Saved.read(copy)
    head = read["all"][: again.offset]
    assert b"<domain>new</domain>\0<cookie/>" in head
    assert b"old" not in head
    assert read["all"][again.offset :] == PAGES
    assert not (tmp_path / "pipe").exists()


def _refuses_at_once(path: str) -> None:
    raise RuntimeError("no such device")


def _refuses_in_the_middle(path: str) -> None:
    with Path(path).open("rb") as pipe:
        pipe.read(4096)
    raise RuntimeError("no such device")


@pytest.mark.parametrize("refuse", [_refuses_at_once, _refuses_in_the_middle])
def test_refused_restore_leaves_no_pipe_and_nobody_who_writes(
    saved: Saved, tmp_path: Path, refuse: Callable[[str], None]
) -> None:
    connection = SimpleNamespace(restoreFlags=lambda path, xml, flags: refuse(path))
    with pytest.raises(RuntimeError, match="no such device"):
        memory.restore(LIBVIRT, connection, saved, "<domain/>", tmp_path / "pipe")
    assert not (tmp_path / "pipe").exists()


def test_restore_of_memory_that_is_gone_says_so(saved: Saved, tmp_path: Path) -> None:
    saved.path.unlink()

    def restore(path: str, xml: None, flags: int) -> None:
        raise RuntimeError("nothing came")

    connection = SimpleNamespace(restoreFlags=restore)
    with pytest.raises(FileNotFoundError, match="saved"):
        memory.restore(LIBVIRT, connection, saved, "<domain/>", tmp_path / "pipe")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"", "it ends before its memory begins"),
        (lambda data: data[:200], "it ends before its memory begins"),
        (lambda data: b"LibvirtQemudPart" + data[16:], "no memory that libvirt has saved"),
        (lambda data: data[:16] + b"\3" + data[17:], "no memory that libvirt has saved in ver"),
        (lambda data: data[:28] + b"\1" + data[29:], "its memory is compressed"),
    ],
)
def test_file_that_is_no_saved_memory_is_refused(
    saved: Saved, change: Callable[[bytes], bytes], message: str
) -> None:
    saved.path.write_bytes(change(saved.path.read_bytes()))
    with pytest.raises(ValueError, match=message):
        Saved.read(saved.path)


# domains

XML = """<domain type="qemu"><name>web</name><uuid>u</uuid><genid>g</genid>
<os><cmdline>{words}</cmdline></os>
<devices><disk><source file="{disk}"/></disk>
<interface type="ethernet"><mac address="{mac}"/><target dev="{tap}" managed="no"/></interface>
</devices></domain>"""


def _xml(mac: str = "52:00:00:00:00:01", tap: str = "web-eth0", words: str = "quiet") -> str:
    return XML.format(mac=mac, tap=tap, words=words, disk="/x/disk.qcow2")


def test_machines_that_differ_by_address_and_tap_are_of_one_hardware() -> None:
    assert clones._hardware(_xml()) == clones._hardware(_xml("52:00:00:00:00:02", "db-eth0"))
    assert clones._hardware(_xml()) != clones._hardware(_xml(words="quiet debug"))


def test_model_has_nothing_of_a_machine_that_could_be_met_on_its_networks() -> None:
    model = clones._of_model(_xml(), "model-1", Path("/work/disk"), Path("/log"))
    assert "web" not in model
    assert "52:00:00:00:00:01" not in model
    assert "<target" not in model
    assert 'file="/work/disk"' in model


# snapshots


def _domain(**devices: str) -> str:
    rows = "".join(
        f'<{name}><address type="pci" slot="{slot}"/></{name}>' for name, slot in devices.items()
    )
    return f"<domain><devices>{rows}</devices></domain>"


class Domain:
    """Notes what it is asked."""

    def __init__(
        self, now: str, then: str, *, said: str = "", active: bool = True, runs: bool = True
    ) -> None:
        self.asked: list[str] = []
        self._runs = runs
        self._now, self._then, self._said, self._active = now, then, said, active

    def isActive(self) -> bool:  # noqa: N802
        return self._active

    def XMLDesc(self) -> str:  # noqa: N802
        return self._now

    def snapshotLookupByName(self, name: str) -> Any:  # noqa: N802
        then = f"<domainsnapshot>{self._then}</domainsnapshot>"
        return SimpleNamespace(getXMLDesc=lambda: then)

    def info(self) -> list[int]:
        return [LIBVIRT.VIR_DOMAIN_RUNNING if self._runs else 3]

    def resume(self) -> None:
        self.asked.append("resume")

    def revertToSnapshot(self, snapshot: object, flags: int) -> None:  # noqa: N802
        self.asked.append("revert")

    def typed(self, domain: Domain, command: str, flags: int) -> str:
        self.asked.append(command)
        return self._said


@pytest.mark.parametrize(
    ("domain", "asked"),
    [
        (Domain(_domain(disk="1"), _domain(disk="1")), ["loadvm a"]),
        (Domain(_domain(disk="1"), _domain(disk="1"), runs=False), ["loadvm a", "resume"]),
        (Domain(_domain(disk="1", rng="2"), _domain(disk="1")), ["revert"]),
        (Domain(_domain(disk="1"), _domain(disk="1"), active=False), ["revert"]),
        (
            Domain(_domain(disk="1"), _domain(disk="1"), said="Error: no such device"),
            ["loadvm a", "revert"],
        ),
    ],
    ids=["same", "kept while it stood", "plugged", "off", "refused"],
)
def test_machine_is_put_back_by_its_own_qemu_where_that_can_do_it(
    monkeypatch: pytest.MonkeyPatch, domain: Domain, asked: list[str]
) -> None:
    monitor = SimpleNamespace(qemuMonitorCommand=domain.typed)
    monkeypatch.setitem(sys.modules, "libvirt_qemu", monitor)
    snapshots.put_back(LIBVIRT, domain, "a")
    assert domain.asked == asked


# in the machine


def test_archive_of_a_seed_is_read_as_it_was_written() -> None:
    from pytest_carthage.images.seeds.seed import _tar
    from pytest_carthage.images.seeds.values import FileInSeed, text

    long = "etc/" + "very-" * 30 + "long"
    files = {
        "etc/hostname": text("web\n"),
        "etc/key": FileInSeed(data=b"\0" * 700, mode=0o600),
        "etc/link": FileInSeed(target="../elsewhere"),
        long: text("x"),
    }
    archive = _tar(files)
    members = {name: rest for name, *rest in identity._archived(archive)}
    assert members == {
        "etc/hostname": [0o644, "", b"web\n"],
        "etc/key": [0o600, "", b"\0" * 700],
        "etc/link": [0o644, "../elsewhere", b""],
        long: [0o644, "", b"x"],
    }


def test_files_of_a_seed_replace_what_is_there(tmp_path: Path) -> None:
    from pytest_carthage.images.seeds.seed import _tar
    from pytest_carthage.images.seeds.values import FileInSeed, text

    (tmp_path / "other").write_text("other's")
    (tmp_path / "name").symlink_to("other")
    files = {"name": text("mine", 0o600), "new/link": FileInSeed(target="/x")}
    for _ in range(2):
        identity._unpack(_tar(files), str(tmp_path))
    assert (tmp_path / "name").read_text() == "mine"
    assert (tmp_path / "name").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "other").read_text() == "other's"
    assert (tmp_path / "new/link").readlink() == Path("/x")


def test_settings_of_a_seed_are_those_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "50-carthage.conf"
    assert list(identity._settings(str(path))) == []
    path.write_text("net.ipv4.ip_forward = 1\n# nothing\nnet.ipv6.conf.all.forwarding=1\n")
    assert list(identity._settings(str(path))) == [
        ("/proc/sys/net/ipv4/ip_forward", "1"),
        ("/proc/sys/net/ipv6/conf/all/forwarding", "1"),
    ]


def test_machine_that_was_put_back_tells_its_boot_and_what_could_not_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot_id = tmp_path / "boot_id"
    boot_id.write_text("of-then\n")
    set_to: list[float] = []

    def refuse(entropy: bytes) -> None:
        raise PermissionError(1, f"{entropy!r}")

    monkeypatch.setattr(identity, "_BOOT_ID_FILE", str(boot_id))
    monkeypatch.setattr("time.clock_settime", lambda clock, to: set_to.append(to))
    monkeypatch.setattr(identity, "_stir", refuse)
    assert identity.renew({"time": 17.5, "entropy": "6162"}) == {
        "failed": ["its random numbers could not be renewed: [Errno 1] b'ab'"],
        "boot": "of-then",
    }
    assert set_to == [17.5]


@pytest.mark.parametrize(("is_port", "has"), [(False, set()), (True, {"renew", "become"})])
def test_agent_of_a_host_that_is_not_ours_has_no_operation_that_changes_it(
    is_port: bool, has: set[str]
) -> None:
    script = f"{agent_program()}\nprint(*FarAgent(*os.pipe(), {is_port})._work)\n"
    argv = [sys.executable, "-I", "-S", "-c", f"__name__ = 'agent'\n{script}"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True)
    assert {"renew", "become"} & set(done.stdout.split()) == has


# becoming itself


@pytest.mark.parametrize("takes_s", [0.0, 1.0])
def test_clone_that_is_silent_for_long_has_the_time_that_it_was_given(
    takes_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "SILENCE_S", 0.1)
    ours, theirs = socket.socketpair()

    def answer() -> None:
        with theirs, contextlib.suppress(frames.Closed):
            while True:
                message, _ = frames.receive(theirs)
                if message["op"] == "renew":
                    time.sleep(takes_s)
                frames.send(theirs, {"id": message["id"], "ok": True, "failed": ["the clock"]})

    async def ask() -> list[str]:
        asking = channel.AsyncChannel(ours, "machine 'db'")
        asking.pulse = "ping"
        notes: list[str] = []
        await clones._ask(asking, "renew", 30, notes.append)
        asking.close()
        return notes

    agent = threading.Thread(target=answer)
    agent.start()
    assert asyncio.run(ask()) == ["the clock"]
    agent.join(30)


# a machine that is put back


class _Answering:
    """Whoever answers for a machine: it hangs up on so many, and then says what it is asked."""

    def __init__(self, hangs_up: int) -> None:
        self.hangs_up = hangs_up
        self.asked: list[str] = []

    async def reach(self) -> Any:
        self.asked.append("reach")
        return self

    async def request(self, op: str, **fields: Any) -> tuple[dict[str, Any], list[int]]:
        self.asked.append(op)
        if self.hangs_up:
            self.hangs_up -= 1
            raise FabricError("it is gone")
        return {"failed": [], "boot": 1234}, []


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """Commands that were run in the machine."""
    commands: list[Sequence[str]] = []

    async def execute(channel: Any, argv: Sequence[str], **more: Any) -> tuple[int, bytes, bytes]:
        commands.append(argv)
        return 0, b"1234\n", b""

    monkeypatch.setattr(clones, "execute", execute)
    return commands


@pytest.mark.asyncio
async def test_clone_whose_agent_hangs_up_first_is_asked_again(
    executed: list[Sequence[str]],
) -> None:
    answering = _Answering(hangs_up=2)
    boot_id = await clones.become(answering.reach, limit_s=5, waits=True, note=pytest.fail)
    assert answering.asked == [*["reach", "ping"] * 3, "become"]
    assert executed == [["systemctl", "start", "default.target"]]
    assert len(boot_id) == 36
    assert await clones.renew(answering.reach, limit_s=5, note=pytest.fail) == "1234"


@pytest.mark.asyncio
async def test_clone_whose_agent_hangs_up_for_ever_is_told_with_what_was_seen() -> None:
    answering = _Answering(hangs_up=1000)
    with pytest.raises(FabricError, match=r"did not answer in 0.3 s \(last: it is gone\)"):
        await clones.become(answering.reach, limit_s=0.3, waits=True, note=pytest.fail)
