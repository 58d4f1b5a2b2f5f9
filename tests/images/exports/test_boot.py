"""What a disk boots with, without booting it."""

from __future__ import annotations

import gzip
import lzma
import os
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_carthage.errors import BuildError
from pytest_carthage.images.exports.boot.command import command_script
from pytest_carthage.images.exports.boot.cpio import Cpio
from pytest_carthage.images.exports.boot.initrd import make_initrd
from pytest_carthage.images.exports.boot.kernel import Kernel, modules_of, own_kernels
from pytest_carthage.images.exports.boot.merged import has_init, locate
from pytest_carthage.model.image import ImageConfig

VERSION = "6.1.0-9-cloud-amd64"


def tree(root: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def kernel(root: Path) -> Kernel:
    return Kernel(
        version=VERSION,
        path=root / "vmlinuz",
        trees=(root,),
        modules=None,
        busybox=root / "busybox",
    )


def modules(root: Path, dependencies: str, files: Mapping[str, bytes]) -> Kernel:
    """A kernel with these modules, and what each needs."""
    folder = f"usr/lib/modules/{VERSION}"
    tree(root, {f"{folder}/{name}": data for name, data in files.items()})
    tree(root, {f"{folder}/modules.dep": dependencies, "busybox": b"busybox"})
    return kernel(root)


# archives


def test_archive_is_read_as_it_was_written(tmp_path: Path) -> None:
    cpio = Cpio()
    cpio.add("bin", stat.S_IFDIR | 0o755)
    cpio.add("bin/tool", stat.S_IFREG | 0o755, b"#!/bin/sh\n")
    cpio.add("odd", stat.S_IFREG | 0o600, b"12345")
    cpio.add("empty", stat.S_IFREG | 0o644)
    members = _members(cpio.end())
    assert members == {
        "bin": (stat.S_IFDIR | 0o755, b""),
        "bin/tool": (stat.S_IFREG | 0o755, b"#!/bin/sh\n"),
        "odd": (stat.S_IFREG | 0o600, b"12345"),
        "empty": (stat.S_IFREG | 0o644, b""),
    }


def _members(data: bytes) -> dict[str, tuple[int, bytes]]:
    """What is in an archive, see cpio(5), "New ASCII Format"."""
    members: dict[str, tuple[int, bytes]] = {}
    at = 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name = data[at + 110 : at + 110 + fields[11] - 1].decode()
        at += 110 + fields[11]
        at += -at % 4
        if name == "TRAILER!!!":
            assert at == len(data)
            return members
        assert fields[4] == (2 if stat.S_ISDIR(fields[1]) else 1)  # links
        members[name] = (fields[1], data[at : at + fields[6]])
        at += fields[6]
        at += -at % 4


# kernels


def test_own_kernel_is_the_newest_with_modules(tmp_path: Path) -> None:
    names = ["6.1.0-9", "6.1.0-10", "6.12.0-1"]
    files: dict[str, str | bytes] = {f"boot/vmlinuz-{name}": "" for name in names}
    files |= {f"usr/lib/modules/{name}/modules.dep": "" for name in names[:2]}
    image = tree(tmp_path / "image", files)
    old = ("6.1.0-10", image / "boot/vmlinuz-6.1.0-10")
    assert next(own_kernels((image,))) == old
    above = tree(tmp_path / "above", {"lib/modules/6.12.0-1/modules.dep": ""})
    new = ("6.12.0-1", image / "boot/vmlinuz-6.12.0-1")
    assert list(own_kernels((above, image)))[:2] == [new, old]
    assert list(own_kernels((tmp_path / "none",))) == []


def test_modules_come_after_those_that_they_need_each_once(tmp_path: Path) -> None:
    dependencies = (
        "kernel/fs/ext4/ext4.ko: kernel/lib/crc16.ko kernel/fs/jbd2/jbd2.ko\n"
        "kernel/fs/jbd2/jbd2.ko:\n"
        "kernel/lib/crc16.ko:\n"
        "kernel/virtio-blk.ko.xz: kernel/virtio_ring.ko.gz\n"
        "kernel/virtio_net.ko: kernel/virtio_ring.ko.gz\n"
        "kernel/virtio_ring.ko.gz:\n"
        "kernel/sound.ko:\n"
    )
    files = {
        "kernel/fs/ext4/ext4.ko": b"ext4",
        "kernel/fs/jbd2/jbd2.ko": b"jbd2",
        "kernel/lib/crc16.ko": b"crc16",
        "kernel/virtio-blk.ko.xz": lzma.compress(b"blk"),
        "kernel/virtio_ring.ko.gz": gzip.compress(b"ring"),
        "kernel/virtio_net.ko": b"net",
        "kernel/sound.ko": b"sound",
    }
    loaded = list(modules_of(modules(tmp_path, dependencies, files)))
    assert loaded == [
        ("virtio_ring", b"ring"),
        ("virtio_blk", b"blk"),
        ("virtio_net", b"net"),
        ("jbd2", b"jbd2"),
        ("crc16", b"crc16"),
        ("ext4", b"ext4"),
    ]


def test_module_that_is_compressed_by_zstd_is_read(tmp_path: Path) -> None:
    try:
        data = subprocess.run(["zstd", "-q"], input=b"ext4", stdout=-1, check=True).stdout
    except FileNotFoundError:
        pytest.skip("no zstd; try: apt-get install zstd")
    loaded = list(modules_of(modules(tmp_path, "a/ext4.ko.zst:\n", {"a/ext4.ko.zst": data})))
    assert loaded == [("ext4", b"ext4")]


def test_kernel_without_its_modules_is_told(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=rf"kernel {VERSION}: no modules.dep beside its modules"):
        list(modules_of(kernel(tmp_path)))
    incomplete = modules(tmp_path, "a/ext4.ko:\n", {})
    with pytest.raises(BuildError, match=rf"kernel {VERSION}: no module a/ext4.ko"):
        list(modules_of(incomplete))


# merged folders


@pytest.mark.skipif(os.geteuid() != 0, reason="whiteouts are made by root")
def test_file_that_is_deleted_above_is_not_there(tmp_path: Path) -> None:
    low = tree(tmp_path / "low", {"a/b": "", "c/d": ""})
    top = tmp_path / "top"
    (top / "a").mkdir(parents=True)
    for name in ("a/b", "c"):
        os.mknod(top / name, stat.S_IFCHR, os.makedev(0, 0))
    assert locate((low,), "a/b") == low / "a/b"
    assert locate((top, low), "a/b") is None
    assert locate((top, low), "c/d") is None


@pytest.mark.parametrize("name", ["sbin/init", "usr/sbin/init", "usr/lib/systemd/systemd"])
def test_init_is_found_where_distributions_have_it(tmp_path: Path, name: str) -> None:
    assert not has_init((tmp_path,))
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).symlink_to("/elsewhere")  # not to be followed: it is of another root
    assert has_init((tmp_path,))


# the command


USERS = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\nwww:x:33:34::/var/www:/bin/sh\nbad:x:5\n",
    "etc/group": "root:x:0:\nadm:x:4:\n",
}


@pytest.mark.parametrize(
    ("user", "line", "home"),
    [
        ("", "'/bin/a b' c", "/root"),
        ("root", "'/bin/a b' c", "/root"),
        ("0", "'/bin/a b' c", "/root"),
        ("www", "$b start-stop-daemon -S -c 33:34 -x '/bin/a b' -- c", "/var/www"),
        ("33", "$b start-stop-daemon -S -c 33:34 -x '/bin/a b' -- c", "/var/www"),
        ("www:adm", "$b start-stop-daemon -S -c 33:4 -x '/bin/a b' -- c", "/var/www"),
        ("www:77", "$b start-stop-daemon -S -c 33:77 -x '/bin/a b' -- c", "/var/www"),
        ("root:adm", "$b start-stop-daemon -S -c 0:4 -x '/bin/a b' -- c", "/root"),
    ],
)
def test_command_is_run_as_its_user(tmp_path: Path, user: str, line: str, home: str) -> None:
    config = ImageConfig(command=("/bin/a b", "c"), user=user)
    script = command_script(config, (tree(tmp_path, USERS),))
    assert f"{line} < /dev/console" in script
    assert f"HOME={home}\n" in script


@pytest.mark.parametrize("user", ["nobody", "1000", "www:nogroup", "bad"])
def test_user_that_the_image_does_not_have_is_told(tmp_path: Path, user: str) -> None:
    config = ImageConfig(command=("/bin/a",), user=user)
    message = rf"^user '{user}' of the command is not in the image's /etc/passwd or /etc/group; try"
    with pytest.raises(BuildError, match=message):
        command_script(config, (tree(tmp_path, USERS),))


def test_command_has_its_environment_and_folder_quoted() -> None:
    config = ImageConfig(command=("/a",), env=(("A", "x y'z"), ("B", "@HOME@")), workdir="/a b")
    lines = command_script(config, ()).splitlines()
    assert "export A='x y'\"'\"'z'" in lines
    assert "export B=@HOME@" in lines  # what an author wrote is no place to fill in
    assert "cd '/a b'" in lines


def test_script_is_one_that_a_shell_takes(tmp_path: Path) -> None:
    config = ImageConfig(command=("/bin/a b", "$(touch x)"), env=(("A", "`touch y`"),), user="www")
    script = command_script(config, (tree(tmp_path, USERS),))
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)


# the initrd


def test_initrd_has_the_command_only_where_nothing_else_starts(tmp_path: Path) -> None:
    booted = modules(tmp_path / "kernel", "a/ext4.ko:\n", {"a/ext4.ko": b"ext4"})
    config = ImageConfig(command=("/bin/true",))
    alone = _members(gzip.decompress(make_initrd(booted, config)))
    assert alone[f"lib/modules/{VERSION}/ext4.ko"][1] == b"ext4"
    assert alone[f"lib/modules/{VERSION}/modules.dep"][1] == b"ext4.ko:\n"
    assert b"modprobe -a ext4 2>" in alone["init"][1]
    assert alone["bin/busybox"] == (stat.S_IFREG | 0o755, b"busybox")
    assert b"/bin/true < /dev/console" in alone["command"][1]
    assert stat.S_ISCHR(alone["dev/console"][0])
    image = tree(tmp_path / "image", {"usr/lib/systemd/systemd": ""})
    systemd = _members(gzip.decompress(make_initrd(booted, config, (image,))))
    assert "command" not in systemd
    assert systemd["init"] == alone["init"]
    subprocess.run(["sh", "-n"], input=alone["init"][1], check=True)
