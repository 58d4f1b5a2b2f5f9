"""Disks that are kept in the store: made once, held while used, looked at and removed."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from pytest_carthage.cli import main
from pytest_carthage.images.exports.disks.ensuring import ensure_disk
from pytest_carthage.images.exports.disks.saving import save_disk
from pytest_carthage.images.exports.disks.values import BootDisk
from pytest_carthage.images.exports.tools import check_tools
from pytest_carthage.store import checking, garbage
from pytest_carthage.store.built import Built
from pytest_carthage.store.root import Store

from .disks import lend_kernel
from .handmade import Images, skip_without

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Images:
    skip_without(check_tools(("mke2fs", "qemu-img", "depmod", "dpkg-deb", "apt-get")))
    made = Images(tmp_path / "images")
    lend_kernel(made.store)
    monkeypatch.setenv("CARTHAGE_IMAGES", str(tmp_path / "images"))
    return made


@pytest.fixture
def built(images: Images) -> Built:
    return images.built(images.layer("base", script="mkdir sbin; echo > sbin/init"))


def ensured(built: Built, size_mib: int = 300) -> BootDisk:
    return asyncio.run(ensure_disk(built, size_mib=size_mib))


def test_disk_is_made_once(images: Images, built: Built, tmp_path: Path) -> None:
    first = ensured(built)
    made = first.path.stat()
    second = ensured(built)
    assert second == first
    assert second.path.stat().st_mtime_ns == made.st_mtime_ns
    assert made.st_blocks * 512 < 200 << 20  # as sparse as it can be
    # what is saved is a copy of it
    asyncio.run(save_disk(built, tmp_path / "a.raw", size_mib=300))
    assert (tmp_path / "a.raw").read_bytes() == first.path.read_bytes()
    assert [kept.meta.key for kept in images.store.disks] == [first.key]
    assert images.leftovers() == []


def test_disk_of_another_image_or_size_is_another_one(images: Images, built: Built) -> None:
    above = images.layer("above", built.layers, script="echo new > new")
    keys = {
        ensured(built).key,
        ensured(built, size_mib=310).key,
        ensured(images.built(*built.layers, above)).key,
    }
    assert len(keys) == 3
    assert {kept.meta.key for kept in images.store.disks} == keys


def test_those_who_ask_at_the_same_time_get_one_disk(images: Images, built: Built) -> None:
    async def both() -> list[BootDisk]:
        return await asyncio.gather(*(ensure_disk(built, size_mib=300) for _ in range(3)))

    assert len({disk.path for disk in asyncio.run(both())}) == 1
    assert len(list(images.store.disks)) == 1
    assert images.leftovers() == []


def test_disk_that_is_used_is_not_removed(images: Images, built: Built) -> None:
    disk = ensured(built)
    other = Store(images.store.root)
    _age(disk)
    removed = garbage.collect(other, older_than_s=60)
    assert "disk" not in {row.kind for row in removed}
    assert not other.remove_disk(disk.key)
    images.store.release()
    dry = list(garbage.collect(other, older_than_s=60, dry_run=True))
    assert ("disk", f"of handmade ({disk.key[:12]})") in {(row.kind, row.name) for row in dry}
    assert disk.path.exists()
    removed = garbage.collect(other, older_than_s=60)
    (row,) = (row for row in removed if row.kind == "disk")
    assert row.size > 10 << 20  # its kernel, too
    assert not disk.folder.exists()
    assert images.leftovers() == []


def test_disk_that_was_asked_for_lately_stays(images: Images, built: Built) -> None:
    disk = ensured(built)
    _age(disk)
    ensured(built)
    images.store.release()
    garbage.collect(Store(images.store.root), older_than_s=60)
    assert disk.path.exists()


def _age(disk: BootDisk) -> None:
    os.utime(disk.folder / "disk.json", (1, 1))


def test_damaged_disk_is_told_and_made_anew(
    images: Images, built: Built, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = ensured(built)
    assert not [one for one in checking.damages(images.store) if one.kind == "disk"]
    os.truncate(disk.path, 1000)
    assert main(["images", "check"]) == 1
    text = f"damaged disk: {disk.key[:12]}: disk had 314572800 bytes, and has 1000"
    assert text in capsys.readouterr().out
    images.store.release()
    again = ensured(built)
    assert again.path.stat().st_size == 300 << 20
    assert main(["images", "check"]) == 0
    (disk.folder / "initrd").unlink()
    assert main(["images", "check", "--repair"]) == 0
    assert "initrd is gone" in capsys.readouterr().out
    assert not disk.folder.exists()


def test_disks_are_listed_and_go_with_their_image(
    images: Images, built: Built, capsys: pytest.CaptureFixture[str]
) -> None:
    images.store.records.keep(built.record(1.0))
    ensured(built)
    images.store.release()
    assert main(["images", "ls"]) == 0
    assert "1 disk, " in (shown := capsys.readouterr().out)
    assert "of handmade" in shown
    assert main(["images", "rm", "handmade"]) == 0
    assert "1 layer, 1 disk, " in capsys.readouterr().out
    assert list(images.store.disks) == []
