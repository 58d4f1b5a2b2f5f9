"""What ``benchmarks.vm`` is held against: the disk of our machines, booted by other means.

Plain QEMU as a person starts it, ``virt-install`` with the initrd that Debian makes, and a QEMU
node of munet's; each is reached by ssh. An alternative that cannot be had here says why.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import seconds
from pytest_carthage.channels.far.program import agent_program
from pytest_carthage.images.exports.disks.values import BootDisk
from pytest_carthage.images.seeds.seed import make_seed
from pytest_carthage.images.seeds.values import text
from pytest_carthage.planning.plan import Plan, PlannedMachine
from pytest_carthage.providers.libvirt import host
from pytest_carthage.store.built import Built

__all__ = ["NotTaken", "Other", "StockKernel", "installed", "munet_node", "plain"]

#: how long one may take to answer, in seconds
LIMIT_S = 120.0
_COPY_S = 120.0
_PAUSE_S = 0.1
#: of what was printed last, so many lines are told, and so much of each
_LINES, _LINE = 3, 150
_MIB = 512
_SSH = (
    *("ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"),
    *("-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=5"),
)
_NETWORK = "[Match]\nDriver=virtio_net\n\n[Network]\nDHCP=ipv4\n"


class NotTaken(Exception):
    """An alternative that cannot be had here, or has failed; with the reason."""


class StockKernel:
    """A kernel with the initrd that Debian's initramfs-tools made for it."""

    def __init__(self, built: Built) -> None:
        for tree in built.lower:
            for kernel in tree.glob("boot/vmlinuz-*"):
                initrd = kernel.with_name(kernel.name.replace("vmlinuz-", "initrd.img-"))
                if initrd.exists():
                    self.kernel, self.initrd = kernel, initrd
                    return
        raise NotTaken(f"{built.who} has no kernel with an initrd")


class Other:
    """Files of the alternatives, and how ssh reaches them.

    They have one disk after the other, which the first boot has taken the seed from: the network
    asks QEMU's own DHCP server, and root lets a key in.
    """

    def __init__(
        self, folder: Path, built: Built, base: BootDisk, planned: PlannedMachine, plan: Plan
    ) -> None:
        self.folder, self.base = folder, base
        self._key = folder / "key"
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self._key)]
        subprocess.run(keygen, check=True)
        files = {
            "root/.ssh/authorized_keys": text(self._key.with_suffix(".pub").read_text(), 0o600),
            "etc/systemd/network/01-all.network": text(_NETWORK),
        }
        seed = make_seed(planned, plan, built, agent=agent_program(), files=files)
        (folder / "seed.img").write_bytes(seed)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        #: what is typed before ssh, so that it is where the port is
        self.inside: Sequence[str] = ()

    @property
    def disk(self) -> Path:
        """What it writes, above the disk of our machines."""
        return self.folder / "disk.qcow2"

    def new_disk(self) -> None:
        """Have it begin as our machines do."""
        self.disk.unlink(missing_ok=True)
        above = ["-b", str(self.base.path), "-F", self.base.format]
        create = ["qemu-img", "create", "-q", "-f", "qcow2", *above, str(self.disk)]
        subprocess.run(create, check=True)

    @property
    def forwarding(self) -> str:
        """QEMU's own network, with a port for the machine's sshd."""
        return f"hostfwd=tcp:127.0.0.1:{self.port}-:22"

    def ssh(
        self, command: str, *options: str, data: Path | None = None, limit_s: float = 30.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command."""
        words = ["-i", str(self._key), "-p", str(self.port), *options, "root@127.0.0.1", command]
        with contextlib.ExitStack() as stack:
            stdin: Any = subprocess.DEVNULL
            if data is not None:
                stdin = stack.enter_context(data.open("rb"))
            return subprocess.run(
                [*self.inside, *_SSH, *words],
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                timeout=limit_s,
                check=False,
            )

    def wait(self, why_gone: Callable[[], str | None]) -> None:
        """Wait until a command has been run.

        :param why_gone: tells why nobody will answer; None: somebody may.
        :raises NotTaken: nobody does, with the last that was seen.
        """
        deadline = time.perf_counter() + LIMIT_S
        while True:
            try:
                done = self.ssh("true")
                if not done.returncode:
                    return
                seen = done.stderr.strip()
            except subprocess.TimeoutExpired:
                seen = "ssh hangs"
            if (why := why_gone()) is not None:
                raise NotTaken(why)
            if time.perf_counter() > deadline:
                raise NotTaken(f"no ssh in {LIMIT_S:g} s (last: {seen})")
            time.sleep(_PAUSE_S)

    def commands(self, rounds: int) -> list[float]:
        """Milliseconds of a command over a connection that is shared, and open."""
        shared = self._shared()
        return [seconds(lambda: self._must("true", *shared)) * 1e3 for _ in range(rounds)]

    def copy(self, data: Path) -> float:
        """Seconds to put a file, over the same."""
        into = "cat > /root/data"
        return seconds(lambda: self._must(into, *self._shared(), data=data, limit_s=_COPY_S))

    def _shared(self) -> tuple[str, ...]:
        options = ("-o", "ControlMaster=auto", "-o", f"ControlPath={self.folder}/master")
        self._must("true", *options, "-o", "ControlPersist=60")
        return options

    def _must(self, command: str, *options: str, **more: Any) -> None:
        try:
            done = self.ssh(command, *options, **more)
        except subprocess.TimeoutExpired as error:
            raise NotTaken(f"ssh: {command!r} hangs") from error
        if done.returncode:
            raise NotTaken(f"ssh: {command!r} failed: {done.stderr.strip()}")

    def last_words(self) -> str:
        """The end of what a machine's console and QEMU have printed."""
        printed = ""
        for name in ("console.log", "stderr.log"):
            with contextlib.suppress(OSError):
                printed += (self.folder / name).read_text(errors="replace")
        lines = [line.strip() for line in printed.splitlines() if line.strip()]
        return " / ".join(line[:_LINE] for line in lines[-_LINES:])


@contextlib.contextmanager
def plain(other: Other, *, keep_disk: bool = False) -> Iterator[float]:
    """A block in which plain QEMU runs it; yields the seconds until its sshd has run a command.

    :param keep_disk: at the end all is written, for those who start the same disk again.
    :raises NotTaken: it does not come so far, with what QEMU or the machine said.
    """
    other.new_disk()
    accelerated = "kvm" if host.acceleration().kind == "kvm" else "tcg"
    # the first of them is /dev/vda
    disks = {"root": (other.disk, "qcow2"), "seed": (other.folder / "seed.img", "raw")}
    argv = [
        *(host.emulator() or "qemu-system-x86_64", "-machine", f"pc,accel={accelerated}"),
        *("-m", str(_MIB), "-display", "none", "-monitor", "none"),
        *("-serial", f"file:{other.folder}/console.log"),
        *("-kernel", str(other.base.kernel), "-initrd", str(other.base.initrd)),
        *("-append", f"{other.base.append} panic=-1", "-no-reboot"),
        *("-nic", f"user,model=virtio,{other.forwarding}"),
    ]
    for name, (path, kind) in disks.items():
        argv += ["-drive", f"file={path},if=none,id={name},format={kind},cache=unsafe"]
        argv += ["-device", f"virtio-blk-pci,drive={name},serial=carthage-{name}"]
    begin = time.perf_counter()
    with _process(other, argv) as process:
        other.wait(lambda: _end_of(process, "QEMU", other))
        yield time.perf_counter() - begin
        if keep_disk:
            other.ssh("sync")


@contextlib.contextmanager
def _process(other: Other, argv: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process, which is ended at the end."""
    with (other.folder / "stderr.log").open("wb") as stderr:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _end_of(process: subprocess.Popen[bytes], name: str, other: Other) -> str | None:
    status = process.poll()
    if status is None:
        return None
    return f"{name} ended with status {status}; printed last: {other.last_words()}"


@contextlib.contextmanager
def installed(other: Other, stock: StockKernel, uri: str) -> Iterator[float]:
    """The same by ``virt-install``, with a stock initrd, in a libvirt.

    :param other: has a disk that has booted once.
    :param uri: of a libvirt whose machines' processes can be found here.
    :raises NotTaken: as :func:`plain`, or this host has no ``virt-install``.
    """
    if shutil.which("virt-install") is None:
        raise NotTaken("virt-install is not installed (Debian: virtinst)")
    kind = "kvm" if host.acceleration().kind == "kvm" else "qemu"
    name = "installed"
    arguments = f"-netdev user,id=n,{other.forwarding} -device virtio-net-pci,netdev=n,addr=0x10"
    argv = [
        *("virt-install", "--connect", uri, "--name", name, "--virt-type", kind, "--transient"),
        *("--memory", str(_MIB), "--vcpus", "1", "--osinfo", "detect=off,require=off", "--import"),
        *("--disk", f"path={other.disk},format=qcow2,bus=virtio,cache=unsafe"),
        *("--network", "none", "--graphics", "none", "--noautoconsole"),
        "--boot",
        f"kernel={stock.kernel},initrd={stock.initrd},kernel_args=root=/dev/vda rw console=ttyS0",
        f"--qemu-commandline={arguments}",
    ]
    begin = time.perf_counter()
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise NotTaken("virt-install hangs") from error
    if done.returncode:
        raise NotTaken(f"virt-install: {(done.stderr or done.stdout).strip()}")
    try:
        yield from _answered(other, lambda: qemu_of(f"guest={name},"), begin)
    finally:
        virsh = ["virsh", "--connect", uri, "destroy", name]
        subprocess.run(virsh, capture_output=True, timeout=60, check=False)


@contextlib.contextmanager
def munet_node(other: Other) -> Iterator[float]:
    """The same by munet, which starts QEMU in a namespace of its own.

    :param other: has a disk that has booted once.
    :raises NotTaken: as :func:`plain`, or this Python has no munet.
    """
    if importlib.util.find_spec("munet") is None:
        raise NotTaken("munet is not installed (pip install munet)")
    folder = other.folder / "munet"
    folder.mkdir()
    node = {
        "name": "vm",
        "qemu": {
            "memory": f"{_MIB}M",
            "kvm": host.acceleration().kind == "kvm",
            "kernel": str(other.base.kernel),
            "initrd": str(other.base.initrd),
            "root": "/dev/vda",
            "disk": str(other.disk),
            "extra-args": f"-nic user,model=virtio,{other.forwarding}",
            # it would log in there, which nobody can
            "console": {"timeout": int(LIMIT_S)},
        },
    }
    # JSON is YAML
    (folder / "munet.yaml").write_text(json.dumps({"topology": {"nodes": [node]}}))
    argv = [sys.executable, "-m", "munet", "--no-cli", "-d", str(folder / "run")]
    begin = time.perf_counter()
    find = partial(qemu_of, str(other.disk))
    try:
        with _process(other, [*argv, "-c", str(folder / "munet.yaml")]) as process:
            yield from _answered(other, find, begin, lambda: _end_of(process, "munet", other))
    finally:
        with contextlib.suppress(LookupError, ProcessLookupError):
            os.kill(find(), signal.SIGKILL)


def _answered(
    other: Other,
    find: Callable[[], int],
    begin: float,
    why_gone: Callable[[], str | None] = lambda: None,
) -> Iterator[float]:
    """Wait for one whose QEMU is in another network namespace; yields the seconds."""
    pid = 0

    def gone() -> str | None:
        if pid and not Path(f"/proc/{pid}").exists():
            return f"QEMU ended; printed last: {other.last_words()}"
        return why_gone()

    deadline = time.perf_counter() + LIMIT_S
    while not pid:
        with contextlib.suppress(LookupError):
            pid = find()
        if (why := gone()) is not None:
            raise NotTaken(why)
        if time.perf_counter() > deadline:
            raise NotTaken(f"no QEMU in {LIMIT_S:g} s; printed last: {other.last_words()}")
        time.sleep(0 if pid else _PAUSE_S)
    other.inside = ("nsenter", f"--net=/proc/{pid}/ns/net")
    try:
        other.wait(gone)
        yield time.perf_counter() - begin
    finally:
        other.inside = ()


def qemu_of(word: str) -> int:
    """The process of the QEMU that has this in an argument.

    :raises LookupError: there is none.
    """
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if b"qemu" in words[0] and any(word.encode() in each for each in words[1:]):
                return int(folder.name)
    raise LookupError(f"no QEMU has {word!r} in its arguments")
