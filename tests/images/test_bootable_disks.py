"""Disks that boot by themselves, and disks that exist already; nothing is booted here."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
from pathlib import Path

import pytest

from pytest_carthage import Image
from pytest_carthage.errors import BuildError
from pytest_carthage.images.bases import disk as disk_base
from pytest_carthage.images.exports.disks.ensuring import ensure_disk
from pytest_carthage.images.exports.disks.filesystem import identity_of
from pytest_carthage.images.exports.disks.values import BootDisk
from pytest_carthage.images.exports.tools import check_tools

from .disks import lend_kernel
from .handmade import Images, skip_without

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

_ROOT_AT = 36 << 20


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    tools = ("mke2fs", "mformat", "depmod", "dpkg-deb", "apt-get")
    skip_without(check_tools(tools))
    made = Images(tmp_path_factory.mktemp("disks") / "images")
    lend_kernel(made.store)
    return made


@pytest.fixture(scope="module")
def disk(images: Images) -> BootDisk:
    """A disk with a boot loader."""
    script = "mkdir -p sbin boot etc; : > sbin/init; echo old > boot/old; chmod 700 etc"
    built = images.built(images.layer("base", script=script))
    return asyncio.run(ensure_disk(built, boot="disk", size_mib=300))


def _printed(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_disk_has_partitions_for_either_firmware(images: Images, disk: BootDisk) -> None:
    assert (disk.kernel, disk.initrd, disk.append) == (None, None, "")
    rows = _printed("partx", "--show", "--noheadings", "-o", "START,SECTORS,NAME", str(disk.path))
    assert [row.split() for row in rows.splitlines()] == [
        ["2048", "2048", "grub"],
        ["4096", str(34 * 2048), "efi"],
        [str(36 * 2048), str(300 * 2048), "root"],
    ]
    told = _printed("blkid", "-p", "-o", "export", str(disk.path))
    assert "PTTYPE=gpt" in told
    assert images.leftovers() == []


def test_first_sector_leads_to_the_core(disk: BootDisk) -> None:
    with disk.path.open("rb") as file:
        first = file.read(512)
        file.seek(1 << 20)
        core = file.read(1024)
    assert first[510:] == b"\x55\xaa"
    assert b"GRUB" in first[:440]
    assert int.from_bytes(first[0x5C:0x64], "little") == 2048
    # and that has a list of its other sectors
    assert int.from_bytes(core[0x1F4:0x1FC], "little") == 2049
    assert 50 < int.from_bytes(core[0x1FC:0x1FE], "little") < 2047


def test_uefi_finds_its_program(disk: BootDisk) -> None:
    listing = _printed("mdir", "-b", "-/", "-i", f"{disk.path}@@2M", "::")
    assert "::/EFI/BOOT/BOOTX64.EFI" in listing


def test_root_has_what_the_loader_asks_for(disk: BootDisk, tmp_path: Path) -> None:
    root = f"{disk.path}?offset={_ROOT_AT}"

    def debugfs(command: str) -> str:
        return _printed("debugfs", "-R", command, root)

    identity = identity_of("base")
    config = debugfs("cat /boot/grub/grub.cfg")
    assert f"root=UUID={identity} rw console=" in config
    version = config.split("set version=")[1].split()[0]
    names = debugfs("ls /boot").split()
    assert {f"vmlinuz-{version}", f"initrd.img-carthage-{version}", "old", "grub"} <= set(names)
    assert "Mode:  0700" in debugfs("stat /etc") or "Mode:  0755" in debugfs("stat /etc")
    assert identity in _printed("blkid", "-p", "-O", str(_ROOT_AT), "-o", "export", str(disk.path))
    hook = debugfs("cat /etc/kernel/postinst.d/zz-pytest-carthage")
    boot = tmp_path / "boot"
    (boot / "grub").mkdir(parents=True)
    script = hook.replace("/boot/", f"{boot}/")
    for version in ("6.1", "6.2"):
        (boot / "initrd.img-6.2").touch()
        subprocess.run(["sh", "-c", script, "hook", version], check=True)
        # a kernel without an initrd is none to boot
        assert (boot / "grub/carthage.cfg").exists() is (version == "6.2")
    assert (boot / "grub/carthage.cfg").read_text() == "set version=6.2\n"


def test_each_kernel_of_an_image_can_be_chosen(images: Images) -> None:
    script = "mkdir -p sbin boot; : > sbin/init\n"
    for version in ("6.1", "6.12"):
        script += f"echo {version} > boot/vmlinuz-{version}\n"
        script += f"mkdir -p lib/modules/{version}; : > lib/modules/{version}/modules.dep\n"
    built = images.built(images.layer("two", script=script))
    disk = asyncio.run(ensure_disk(built, boot="disk", size_mib=300))
    root = f"{disk.path}?offset={_ROOT_AT}"
    names = _printed("debugfs", "-R", "ls /boot", root).split()
    assert {"initrd.img-carthage-6.1", "initrd.img-carthage-6.12"} <= set(names)
    assert _printed("debugfs", "-R", "cat /boot/vmlinuz-6.1", root) == "6.1\n"
    config = _printed("debugfs", "-R", "cat /boot/grub/grub.cfg", root)
    assert config.index("set version=6.12\n") < config.index("set version=$saved_entry")


# disks that exist


def _cloud(images: Images, path: Path, **options: str) -> BootDisk:
    image = Image.cloud(path, **options)
    built = images.built(images.layer(f"of-{path.name}", script="mkdir etc"), image=image)
    return asyncio.run(ensure_disk(built))


def test_disk_that_exists_is_taken_as_it_is(images: Images, tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "10M"], check=True)
    cloud = _cloud(images, path)
    assert (cloud.path, cloud.format, cloud.kernel) == (path, "qcow2", None)
    assert cloud.seed == "cloud-init"
    (tmp_path / "b.img").write_bytes(bytes(512))
    raw = images.built(
        images.layer("raw", script="mkdir etc"), image=Image.disk(tmp_path / "b.img")
    )
    disk = asyncio.run(ensure_disk(raw))
    assert (disk.format, disk.seed) == ("raw", "carthage")


def test_cloud_image_is_compared_with_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "a.img"
    path.write_bytes(b"disk")
    digest = hashlib.sha256(b"disk").hexdigest()
    read = asyncio.run(disk_base.inputs(Image.cloud(path, sha256=digest)))
    assert list(read) == [str(path)]
    with pytest.raises(BuildError, match=rf"its SHA-256 is {digest}, and .*try: get the"):
        asyncio.run(disk_base.inputs(Image.cloud(path, sha256="0" * 64)))


def test_cloud_image_is_another_image_than_the_same_disk(tmp_path: Path) -> None:
    keys = {
        Image.disk(tmp_path / "a.img").key,
        Image.cloud(tmp_path / "a.img").key,
        Image.cloud(tmp_path / "a.img", sha256="0" * 64).key,
    }
    assert len(keys) == 3
    (mistake,) = Image.cloud(tmp_path / "a.img", sha256="abc").mistakes
    assert "sha256='abc' is not 64 hexadecimal digits" in str(mistake.error("image"))
