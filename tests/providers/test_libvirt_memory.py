"""Memory that libvirt saved, as another domain is given it; and what a machine's snapshots are."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_carthage import Image, Layout, Machine, Network, Vm
from pytest_carthage.channels.far.inside import identity
from pytest_carthage.channels.far.program import agent_program
from pytest_carthage.errors import FabricError
from pytest_carthage.fabric.wire import channel, frames
from pytest_carthage.planning import make_plan
from pytest_carthage.providers.libvirt import (
    LibvirtProvider,
    memory,
    models,
    recipes,
    snapshots,
    waking,
)
from pytest_carthage.providers.libvirt.memory import Saved

LIBVIRT: Any = SimpleNamespace(
    VIR_DOMAIN_SAVE_RUNNING=2,
    VIR_DOMAIN_RUNNING=1,
    VIR_DOMAIN_SNAPSHOT_REVERT_RUNNING=1,
    VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL=1024,
)
PAGES = os.urandom(3 << 20)


class Lab(Layout):
    lan = Network("10.0.0.0/24")
    db = Machine(Image.debian("bookworm"), on=Vm(), links={"lan0": lan.at(".5")})


PLANNED = make_plan(Lab, targets={"libvirt": LibvirtProvider.traits}).machines["db"]


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


# the main memory, taken out


def _name(name: str) -> bytes:
    return bytes([len(name)]) + name.encode()


def _page(name: str | None, number: int, content: bytes) -> bytes:
    """A page as QEMU sends it; None: of the same memory as the one before."""
    flags = 0x08 if len(content) > 1 else 0x02
    head = struct.pack(">Q", number * 4096 | flags | (0x20 if name is None else 0))
    return head + (b"" if name is None else _name(name)) + content


def _section(kind: int, number: int, records: bytes) -> bytes:
    section = struct.pack(">BI", kind, number)
    return section + records + struct.pack(">QBI", 0x10, 0x7E, number)


MAIN = "/objects/carthage.ram"
ONE, TWO, BIOS = (os.urandom(4096) for _ in range(3))
SIZES = struct.pack(">Q", 5 * 4096 | 0x04) + b"".join(
    _name(name) + struct.pack(">Q", size) for name, size in ((MAIN, 4 * 4096), ("pc.bios", 4096))
)
BEGIN = b"QEVM" + struct.pack(">I", 3) + b"\7\0\0\0\2pc"
SETUP = struct.pack(">BI", 1, 2) + _name("ram") + struct.pack(">II", 0, 4)
REST = b"\4\0\0\0\5\3cpu" + os.urandom(500)


def _stream(part: bytes, end: bytes = b"") -> bytes:
    setup = _section(1, 2, b"")[5:]  # its end only
    return BEGIN + SETUP + SIZES + setup + _section(2, 2, part) + _section(3, 2, end) + REST


def _taken_out(stream: bytes, folder: Path) -> tuple[bytes, bytes]:
    """What is left of what QEMU has saved, and the memory."""
    path = folder / "saved"
    path.write_bytes(Saved(path, 0, b"").head("<domain/>") + stream)
    memory.take_out(path, folder / "ram")
    rest = path.read_bytes()[Saved.read(path).offset :]
    return rest, (folder / "ram").read_bytes()


def test_main_memory_is_taken_out_and_nothing_else(tmp_path: Path) -> None:
    bios = _page("pc.bios", 0, BIOS)
    part = _page(MAIN, 0, ONE) + _page(None, 1, b"\0") + bios + _page(MAIN, 3, TWO)
    rest, ram = _taken_out(_stream(part, _page(MAIN, 2, b"\0")), tmp_path)
    assert ram == ONE + bytes(8192) + TWO
    assert rest == _stream(bios)


def test_memory_without_pages_of_others_is_taken_out(tmp_path: Path) -> None:
    rest, ram = _taken_out(_stream(_page(MAIN, 1, ONE)), tmp_path)
    assert ram == bytes(4096) + ONE + bytes(8192)
    assert rest == _stream(b"")


@pytest.mark.parametrize(
    ("stream", "match"),
    [
        (b"QEVM" + bytes(100), "does not begin where it should"),
        (_stream(_page(MAIN, 0, ONE))[: len(BEGIN + SETUP + SIZES) + 30], "ends too early"),
        (_stream(struct.pack(">Q", 0x100) + _name(MAIN)), "flags 0x100"),
    ],
)
def test_memory_that_qemu_saves_in_another_way_is_refused(
    stream: bytes, match: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=match):
        _taken_out(stream, tmp_path)


def test_main_memory_of_a_domain_begins_empty_or_with_a_file() -> None:
    cold = memory.backed("<domain><name>db</name></domain>", 512)
    assert "memory-backend-ram,id=carthage.ram,size=512M" in cold
    warm = memory.backed(cold, 512, Path("/store/a,b/ram"))
    assert "memory-backend-ram" not in warm
    assert "size=512M,share=off,mem-path=/store/a,,b/ram" in warm
    assert warm.count('value="-machine"') == 1
    assert memory.backed(warm, 512) == cold


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
    assert recipes._hardware(_xml()) == recipes._hardware(_xml("52:00:00:00:00:02", "db-eth0"))
    assert recipes._hardware(_xml()) != recipes._hardware(_xml(words="quiet debug"))


def test_model_has_nothing_of_a_machine_that_could_be_met_on_its_networks() -> None:
    model = models._of_model(_xml(), "model-1", Path("/work/disk"), Path("/log"))
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


@pytest.mark.parametrize(("is_port", "has"), [(False, set()), (True, {"renew", "sleep", "become"})])
def test_agent_of_a_host_that_is_not_ours_has_no_operation_that_changes_it(
    is_port: bool, has: set[str]
) -> None:
    script = f"{agent_program()}\nprint(*FarAgent(*os.pipe(), {is_port})._work)\n"
    argv = [sys.executable, "-I", "-S", "-c", f"__name__ = 'agent'\n{script}"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True)
    assert {"renew", "sleep", "become"} & set(done.stdout.split()) == has


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
        await waking.ask(asking, "renew", 30, notes.append)
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

    monkeypatch.setattr(waking, "execute", execute)
    return commands


@pytest.mark.asyncio
async def test_clone_whose_agent_hangs_up_first_is_asked_again(
    executed: list[Sequence[str]],
) -> None:
    answering = _Answering(hangs_up=2)
    left = ["nginx.service"]
    boot_id = await waking.become(
        answering.reach, PLANNED, left, gone=(), limit_s=5, waits=True, note=pytest.fail
    )
    assert answering.asked == [*["reach", "ping"] * 3, "become"]
    assert executed == [["systemctl", "start", "default.target"]]
    assert len(boot_id) == 36
    assert await waking.renew(answering.reach, limit_s=5, note=pytest.fail) == "1234"


@pytest.mark.parametrize(
    ("links", "left", "expected"),
    [
        (("lan",), (), []),
        (("lan",), ("nginx.service",), ["systemctl start default.target"]),
        # what waits for links is masked where there are none
        ((), ("nginx.service",), ["systemctl daemon-reload && systemctl start default.target"]),
        ((), (), []),
    ],
)
@pytest.mark.asyncio
async def test_clone_starts_what_its_model_has_left(
    executed: list[Sequence[str]], links: Sequence[str], left: Sequence[str], expected: list[str]
) -> None:
    planned = PLANNED if links else replace(PLANNED, links=())
    await waking.become(
        _Answering(hangs_up=0).reach,
        planned,
        left,
        gone=(),
        limit_s=5,
        waits=True,
        note=pytest.fail,
    )
    assert [argv[-1] if argv[0] == "/bin/sh" else " ".join(argv) for argv in executed] == expected


@pytest.mark.asyncio
async def test_clone_whose_agent_hangs_up_for_ever_is_told_with_what_was_seen() -> None:
    answering = _Answering(hangs_up=1000)
    with pytest.raises(FabricError, match=r"did not answer in 0.3 s \(last: it is gone\)"):
        await waking.become(
            answering.reach, PLANNED, (), gone=(), limit_s=0.3, waits=True, note=pytest.fail
        )
