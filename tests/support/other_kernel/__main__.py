"""Run a command of this checkout on Debian's own kernel, emulated: ``python -m ... [COMMAND]``.

What this host's kernel lacks (802.1Q, bonds, GRE, netem) is tested there. The virtual machine
shares the host's file system, read-only, and writes to its own memory. The kernel comes from
Debian's archive and is not installed. It needs ``qemu-system-x86``, ``busybox-static`` and apt.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.support.other_kernel import server

REPOSITORY = Path(__file__).resolve().parents[3]
TESTS = [
    "tests/fabric/test_links.py",
    "tests/fabric/test_capability.py",
    "tests/live/test_link_kinds.py",
    "tests/live/faults/test_faults_live.py",
]
#: what systemd and control groups of version 2 alone are needed for
SYSTEMD_TESTS = ["tests/contract", "tests/providers/test_session_of_a_user.py"]
_PYTEST = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "--timeout=300"]
_METAPACKAGE = "linux-image-amd64"
#: what the first steps need; everything else is loaded from the host's folder
_FIRST_MODULES = (
    "virtio_pci",
    "virtio_blk",
    "9pnet_virtio",
    "9p",
    "overlay",
    "crc32c_generic",
    "ext4",
)
#: told to a systemd that is the first process
_SYSTEMD = (
    "systemd.unified_cgroup_hierarchy=1 systemd.mask=serial-getty@ttyS0.service"
    " systemd.show_status=0"
)
_ENDED = "other kernel: the command ended with status "

_INIT = """#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
for module in {modules}; do insmod /modules/$module || echo "no $module"; done
{steps}"""

_MOUNT = """mkdir -p /lower /memory /root
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro host /lower
mount -t tmpfs -o size=75% tmpfs /memory
mkdir -p /memory/upper /memory/work
mount -t overlay -o lowerdir=/lower,upperdir=/memory/upper,workdir=/memory/work overlay /root
umount /proc
for each in proc sys dev run dev/shm dev/pts; do mkdir -p /root/$each; done
mount -t proc proc /root/proc
mount -t sysfs sys /root/sys
mount -t devtmpfs dev /root/dev
mkdir -p /root/dev/shm /root/dev/pts
mount -t devpts pts /root/dev/pts
mount -t tmpfs tmpfs /root/dev/shm
mount -t tmpfs tmpfs /root/run
mkdir -p /root/lib/modules
mount --bind /root{kernel}/lib/modules /root/lib/modules
cp /bin/busybox /root/run/modprobe
echo /run/modprobe > /root/proc/sys/kernel/modprobe
ip link set lo up
hostname other-kernel
exec switch_root /root /bin/sh {script}
"""

_RUN = """export HOME=/root PATH={path} LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
/run/modprobe -a tun br_netfilter nf_tables 2>/dev/null
cd {folder}
{command}
echo "{ended}$?"
sync
echo o > /proc/sysrq-trigger
sleep 60
"""


def unpack_kernel(folder: Path) -> Path:
    """Fetch Debian's kernel into a folder, once; returns where it is unpacked."""
    target = folder / "kernel"
    if not target.exists():
        said = subprocess.run(
            ["apt-cache", "depends", _METAPACKAGE], check=True, capture_output=True, text=True
        ).stdout
        (package,) = (line.split()[-1] for line in said.splitlines() if "Depends:" in line)
        subprocess.run(["apt-get", "download", package], check=True, cwd=folder)
        (archive,) = folder.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, folder / "unpacked"], check=True)
        (version,) = (path.name for path in (folder / "unpacked/lib/modules").iterdir())
        subprocess.run(
            ["busybox", "depmod", "-b", folder / "unpacked", version], check=True, cwd=folder
        )
        archive.unlink()
        (folder / "unpacked").rename(target)
    return target


def _modules(kernel: Path) -> list[Path]:
    """Files of the first modules and of what they need, in the order of loading."""
    (folder,) = (kernel / "lib/modules").iterdir()
    needs: dict[str, list[str]] = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        name, _, others = line.partition(":")
        needs[name.strip()] = others.split()
    wanted: dict[str, None] = {}

    def want(path: str) -> None:
        for other in needs[path]:
            if other not in wanted:
                want(other)
        wanted[path] = None

    for name in _FIRST_MODULES:
        for path in needs:
            if Path(path).stem == name:
                want(path)
    return [folder / path for path in wanted]


def _entry(name: str, mode: int, content: bytes) -> bytes:
    """One file of a cpio archive in the "newc" format, initramfs-buffer-format of the kernel."""
    encoded = name.encode() + b"\0"
    fields = [0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0]
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)


def _busybox() -> Path:
    path = shutil.which("busybox")
    assert path is not None
    return Path(path)


def make_initramfs(kernel: Path, steps: str, target: Path) -> None:
    """Write the archive that the kernel starts from.

    :param steps: what is done once the first modules are there.
    """
    modules = _modules(kernel)
    init = _INIT.format(modules=" ".join(path.name for path in modules), steps=steps)
    entries = [_entry(name, 0o040755, b"") for name in ("bin", "proc", "modules")]
    entries.append(_entry("bin/busybox", 0o100755, _busybox().read_bytes()))
    entries.append(_entry("init", 0o100755, init.encode()))
    entries += [_entry(f"modules/{path.name}", 0o100644, path.read_bytes()) for path in modules]
    entries.append(_entry("TRAILER!!!", 0, b""))
    target.write_bytes(b"".join(entries))


def boot(
    kernel: Path, initramfs: Path, *, disk: Path | None, memory_mib: int, timeout_s: float
) -> int:
    """Boot it, show its console, and return the command's status."""
    (image,) = (kernel / "boot").glob("vmlinuz-*")
    kvm = os.access("/dev/kvm", os.W_OK) and any(
        flag in Path("/proc/cpuinfo").read_text() for flag in (" vmx ", " svm ")
    )
    process = subprocess.Popen(
        [
            "qemu-system-x86_64",
            *(["-accel", "kvm", "-cpu", "host"] if kvm else ["-accel", "tcg,thread=multi"]),
            *("-m", str(memory_mib), "-smp", "2", "-no-reboot"),
            *("-display", "none", "-monitor", "none", "-serial", "stdio", "-net", "none"),
            *("-kernel", str(image), "-initrd", str(initramfs)),
            *("-append", f"console=ttyS0 quiet panic=-1 sysctl.kernel.printk=3 {_SYSTEMD}"),
            *(("-drive", f"file={disk},format=raw,if=virtio,cache=unsafe") if disk else ()),
            "-virtfs",
            "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    status = 1
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(_ENDED):
                status = int(line.removeprefix(_ENDED))
                break
            print(line.rstrip("\r\n"), flush=True)
        else:
            print("other kernel: it stopped before the command ended", file=sys.stderr)
        return status
    finally:
        process.kill()
        process.wait(timeout_s)


def main(arguments: Sequence[str]) -> int:
    """Run a command, by default the tests of what few kernels lack."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.other_kernel")
    parser.add_argument("--cache", type=Path, help="a folder that keeps the unpacked kernel")
    parser.add_argument(
        "--systemd",
        action="store_true",
        help="systemd is the first process, and control groups are of version 2",
    )
    parser.add_argument("--memory-mib", type=int, default=2048)
    parser.add_argument("command", nargs="*", help="what to run in the checkout; default: pytest")
    options = parser.parse_args(arguments)
    missing = [name for name in ("qemu-system-x86_64", "busybox") if not shutil.which(name)]
    if missing:
        parser.error(
            f"no {' and no '.join(missing)}; try: apt-get install qemu-system-x86 busybox-static"
        )
    command = options.command or [*_PYTEST, *(SYSTEMD_TESTS if options.systemd else TESTS)]
    with tempfile.TemporaryDirectory(prefix="other-kernel-") as temporary:
        folder = Path(temporary)
        if options.cache is not None:
            options.cache.mkdir(parents=True, exist_ok=True)
        kernel = unpack_kernel((options.cache or folder).resolve())
        disk = None
        if options.systemd:
            disk = folder / "disk"
            shared = server.make_disk(disk, REPOSITORY, command, busybox=_busybox(), ended=_ENDED)
            steps = server.MOUNT.format(kernel=kernel, shared=shlex.join(map(str, shared)))
        else:
            script = folder / "run.sh"
            script.write_text(
                _RUN.format(
                    path=shlex.quote(os.environ["PATH"]),
                    folder=shlex.quote(str(REPOSITORY)),
                    command=shlex.join(command),
                    ended=_ENDED,
                )
            )
            steps = _MOUNT.format(kernel=kernel, script=shlex.quote(str(script)))
        make_initramfs(kernel, steps, folder / "initramfs")
        return boot(
            kernel, folder / "initramfs", disk=disk, memory_mib=options.memory_mib, timeout_s=10
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
