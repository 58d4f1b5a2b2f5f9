"""An image as a bootable disk; it is booted, emulated."""

from __future__ import annotations

import asyncio
import functools
import gzip
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_carthage import Image
from pytest_carthage.errors import BuildError, Problem
from pytest_carthage.fabric.host.programs import missing
from pytest_carthage.images.exports.boot import debian
from pytest_carthage.images.exports.boot.finding import find_kernel
from pytest_carthage.images.exports.boot.initrd import make_initrd
from pytest_carthage.images.exports.boot.merged import locate
from pytest_carthage.images.exports.disks.saving import Disk, save_disk
from pytest_carthage.images.exports.notes import quiet
from pytest_carthage.images.exports.tools import check_tools
from pytest_carthage.model.image import ImageConfig
from pytest_carthage.store.built import Built

from .conftest import Lab
from .disks import lend_kernel
from .handmade import Images, skip_without

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

_TOOLS = ("mke2fs", "qemu-img", "depmod", "dpkg-deb", "apt-get")


def _qemu_lacks() -> list[Problem]:
    packages = {"qemu-system-x86_64": "qemu-system-x86"}
    return missing("images", packages, "boots the disk in the test")


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Images:
    skip_without(check_tools(_TOOLS))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    made = Images(tmp_path / "images")
    lend_kernel(made.store)
    return made


def _busybox(images: Images) -> Path:
    return images.store.folder("kernels") / os.uname().machine / "busybox"


def _boot(disk: Disk, until: Callable[[str], bool], within_s: float = 120) -> str:
    """Boot a disk without KVM until its console shows something; returns what it showed."""
    skip_without(_qemu_lacks())
    if os.uname().machine != "x86_64":
        pytest.skip("the test emulates this host's processor, for x86_64 only")
    form = "qcow2" if disk.path.suffix == ".qcow2" else "raw"
    console = disk.path.with_suffix(".console")
    process = subprocess.Popen(
        [
            *("qemu-system-x86_64", "-machine", "pc,accel=tcg", "-cpu", "qemu64", "-m", "512"),
            *("-display", "none", "-no-reboot", "-nic", "none", "-monitor", "none"),
            *("-kernel", str(disk.kernel), "-initrd", str(disk.initrd), "-append", disk.append),
            *("-drive", f"file={disk.path},if=virtio,format={form},snapshot=on"),
            *("-serial", f"file:{console}"),
        ],
        stdin=subprocess.DEVNULL,
    )
    text = ""
    deadline = time.monotonic() + within_s
    try:
        while not until(text):
            assert time.monotonic() < deadline, f"not seen on the console:\n{text[-4000:]}"
            ended = process.poll() is not None
            text = console.read_text(errors="replace") if console.exists() else ""
            assert not ended or until(text), f"it went off:\n{text[-4000:]}"
            time.sleep(0.05)
        return text
    finally:
        process.kill()
        process.wait()


def _debugfs(path: Path, command: str) -> str:
    done = subprocess.run(
        ["debugfs", "-R", command, str(path)], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_command_of_an_image_without_systemd_runs(images: Images, tmp_path: Path) -> None:
    script = (
        f"mkdir bin etc; cp {_busybox(images)} bin/busybox; echo secret > etc/secret; "
        "echo 'someone:x:1234:99::/home:/none' > etc/passwd"
    )
    base = images.layer("base", script=script)
    above = images.layer("above", [base], script="rm etc/secret; echo there > etc/new")
    say = "read line < /etc/new; echo marker $GREETING $line $(/bin/busybox id -u) $HOME in $PWD; "
    say += "[ -e /etc/secret ] || echo it is gone; /bin/busybox uname -r; exit 3"
    image = Image.debian("bookworm", name="tiny").with_(
        command=["/bin/busybox", "sh", "-c", say],
        env={"GREETING": "it's me"},
        workdir="/etc",
        user="someone",
    )
    built = images.built(base, above, image=image)
    disk = asyncio.run(save_disk(built, tmp_path / "tiny.raw", size_mib=400))
    assert (disk.path, disk.kernel, disk.initrd) == (
        tmp_path / "tiny.raw",
        tmp_path / "tiny.vmlinuz",
        tmp_path / "tiny.initrd",
    )
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        *("images", "tiny.initrd", "tiny.raw", "tiny.vmlinuz")
    ]
    assert images.leftovers() == []
    text = _boot(disk, lambda text: "the command ended with status 3" in text)
    assert "marker it's me there 1234 /home in /etc" in text
    assert "it is gone" in text


def test_image_with_systemd_boots_to_a_login(lab: Lab, tmp_path: Path) -> None:
    skip_without([*check_tools(_TOOLS), *_qemu_lacks()])
    image = Image.debian("bookworm", name="small").with_packages("systemd-sysv")
    built = lab.build(image)
    lend_kernel(built.store)
    disk = asyncio.run(save_disk(built, tmp_path / "debian.qcow2"))
    done = subprocess.run(
        ["qemu-img", "info", "--output=json", str(disk.path)], capture_output=True, check=True
    )
    info = json.loads(done.stdout)
    assert info["format"] == "qcow2"
    assert info["virtual-size"] > 2 << 30
    assert info["actual-size"] < 1 << 30
    assert lab.traces() == []
    text = _boot(disk, lambda text: "login: " in text, within_s=200)
    assert "systemd[1]" in text or "Welcome to" in text


def test_disk_has_the_modules_of_its_kernel_where_lib_leads(images: Images, tmp_path: Path) -> None:
    for name, script in (
        ("plain", "mkdir lib sbin"),
        ("merged", "mkdir -p usr/lib sbin; ln -s usr/lib"),
    ):
        base = images.layer(name, script=f"{script}; : > sbin/init")
        path = tmp_path / f"{name}.img"
        asyncio.run(save_disk(images.built(base), path, size_mib=300))
        folder = "/lib/modules" if name == "plain" else "/usr/lib/modules"
        assert "modules.dep.bin" in _debugfs(path, f"ls {folder}/{_version(images)}")
    assert "lib" not in _debugfs(tmp_path / "plain.img", "ls /usr").split()


def _version(images: Images) -> str:
    return (images.store.folder("kernels") / os.uname().machine / "version").read_text()


def test_kernel_of_the_image_is_taken(images: Images, tmp_path: Path) -> None:
    version = _version(images)
    fetched = images.store.folder("kernels") / os.uname().machine
    script = (
        f"mkdir -p boot sbin usr; : > sbin/init; cp -a {fetched}/tree/usr/lib usr/; ln -s usr/lib; "
        f"mv usr/lib/modules/{version} usr/lib/modules/9.9; echo mine > boot/vmlinuz-9.9; "
        "echo old > boot/vmlinuz-9.10"
    )
    base = images.layer("base", script=script)
    disk = asyncio.run(save_disk(images.built(base), tmp_path / "a.raw", size_mib=400))
    # 9.10 is newer, but has no modules
    assert disk.kernel.read_text() == "mine\n"
    assert _debugfs(disk.path, "ls /usr/lib/modules").count("9.9") == 1
    assert version not in _debugfs(disk.path, "ls /usr/lib/modules")


def test_disk_keeps_owners_modes_and_capabilities(images: Images, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files to others")
    script = (
        "mkdir sbin etc; : > sbin/init; chown 12:34 sbin/init; chmod 4750 sbin/init; "
        "cp /bin/true etc/capable; setcap cap_net_raw+ep etc/capable; ln etc/capable etc/linked; "
        "mknod etc/null c 1 3; chmod 1777 etc"
    )
    base = images.layer("base", script=script)
    asyncio.run(save_disk(images.built(base), tmp_path / "a.raw", size_mib=300))
    look = functools.partial(_debugfs, tmp_path / "a.raw")
    assert "Mode:  04750" in look("stat /sbin/init")
    assert "User:    12   Group:    34" in look("stat /sbin/init")
    assert "security.capability" in look("ea_list /etc/capable")
    assert "Links: 2" in look("stat /etc/linked")
    assert "Type: character special" in look("stat /etc/null")
    assert "Mode:  01777" in look("stat /etc")
    checked = subprocess.run(["e2fsck", "-fn", str(tmp_path / "a.raw")], capture_output=True)
    assert checked.returncode == 0, checked.stdout


def test_disk_that_is_too_small_is_told_and_leaves_nothing(images: Images, tmp_path: Path) -> None:
    base = images.layer("base", script="mkdir sbin; : > sbin/init; head -c 90M /dev/urandom > big")
    with pytest.raises(BuildError) as caught:
        asyncio.run(save_disk(images.built(base), tmp_path / "a.qcow2", size_mib=64))
    assert "mke2fs ended with status 1" in str(caught.value)
    assert "try: more than size_mib=64" in str(caught.value)
    assert [one.name for one in tmp_path.iterdir()] == ["images"]
    assert images.leftovers() == []


def test_image_with_nothing_to_boot_is_told(images: Images, tmp_path: Path) -> None:
    base = images.layer("base", script="mkdir etc")
    with pytest.raises(BuildError, match=r"nothing to boot: .*packages=\[\"systemd-sysv\"\]"):
        asyncio.run(save_disk(images.built(base), tmp_path / "a.qcow2"))
    with pytest.raises(BuildError, match=r"not known by its ending; try: \.qcow2, \.raw, \.img"):
        asyncio.run(save_disk(images.built(base), tmp_path / "a.vdi"))


def test_user_that_the_image_does_not_have_is_told(images: Images, tmp_path: Path) -> None:
    base = images.layer("base", script="mkdir bin; : > bin/true")
    image = Image.debian("bookworm").with_(command=["/bin/true"], user="1234")
    with pytest.raises(BuildError, match=r"user '1234' of the command is not in the image's"):
        asyncio.run(save_disk(images.built(base, image=image), tmp_path / "a.qcow2"))
    assert [one.name for one in tmp_path.iterdir()] == ["images"]


def test_disk_of_many_layers_is_made(images: Images, tmp_path: Path) -> None:
    layers = [images.layer("base", script="mkdir sbin; : > sbin/init")]
    for number in range(120):  # their paths do not fit in the options of a mount
        layers.append(images.layer(f"layer-{number:032}", script=f"echo {number} > {number}"))
    asyncio.run(save_disk(images.built(*layers), tmp_path / "a.raw", size_mib=300))
    assert _debugfs(tmp_path / "a.raw", "cat /119") == "119\n"


def test_initrd_is_the_same_each_time(images: Images) -> None:
    kernel = asyncio.run(find_kernel((), images.store, doing="test", note=quiet))
    config = ImageConfig(command=("/bin/a b", "c"), env=(("X", "a'b"),))
    made = {make_initrd(kernel, config) for _ in range(2)}
    assert len(made) == 1
    archive = gzip.decompress(made.pop())
    assert b"'/bin/a b' c" in archive
    # each after what it needs
    (line,) = (line for line in archive.splitlines() if line.startswith(b"modprobe -a "))
    names = line.split()
    assert names.index(b"virtio_ring") < names.index(b"virtio_pci")
    listed = subprocess.run(
        [str(_busybox(images)), "cpio", "-t"], input=archive, capture_output=True, check=True
    )
    assert "init" in listed.stdout.decode().split()


def test_kernel_that_cannot_be_fetched_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_without(check_tools(_TOOLS))
    images = Images(tmp_path / "images")
    base = images.layer("base", script="mkdir sbin; : > sbin/init")
    monkeypatch.setattr(debian, "_PACKAGES", {os.uname().machine: ("linux-image-of-nobody",)})
    empty = tmp_path / "sources.list"
    empty.touch()
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    (tmp_path / "apt.conf").write_text(
        f'Dir::Etc::SourceList "{empty}";\nDir::Etc::SourceParts "/nowhere";\n'
    )
    with pytest.raises(BuildError, match="linux-image-of-nobody"):
        asyncio.run(save_disk(images.built(base), tmp_path / "a.raw"))
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        *("apt.conf", "images", "sources.list")
    ]
    assert images.leftovers() == []
    assert list(images.store.folder("kernels").iterdir()) == []


def test_built_image_can_be_looked_into(images: Images) -> None:
    base = images.layer("base", script="mkdir -p a/b; echo x > a/b/c; ln -s nowhere link")
    above = images.layer("above", [base], script="rm -r a/b; mkdir d")
    built: Built = images.built(base, above)
    assert locate(built.lower, "a/b/c") is None
    assert locate((base.tree,), "a/b/c") == base.tree / "a/b/c"
    assert locate(built.lower, "link") == base.tree / "link"
