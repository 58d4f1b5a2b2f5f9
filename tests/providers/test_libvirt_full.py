"""A disk of the host that is full, under a virtual machine that writes and is saved."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage import Layout, Machine, Vm
from pytest_carthage.errors import CarthageError, FabricError
from pytest_carthage.images.builder import ensure
from pytest_carthage.portal import Portal
from pytest_carthage.providers.libvirt import LibvirtProvider
from pytest_carthage.store import root
from tests.providers.test_libvirt_faults import GUEST, assert_none
from tests.support.layouts import Build, building

pytestmark = [pytest.mark.real, pytest.mark.emulated, pytest.mark.timeout(900)]

MIB = 1 << 20


class Lab(Layout):
    # with XML of its own, so that it boots by itself, and nothing is written for others
    vm = Machine(
        GUEST, on=Vm(memory_mib=384, xml="<description>full</description>"), ready_timeout_s=240
    )


class SmallDisk:
    """A file system of its own, with so much room as a test leaves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    @property
    def free(self) -> int:
        there = os.statvfs(self.folder)
        return there.f_bavail * there.f_frsize

    def leave(self, size_mib: int) -> None:
        """Have no more room than this."""
        with self._ballast.open("ab") as file:
            os.posix_fallocate(file.fileno(), 0, file.tell() + self.free - size_mib * MIB)

    def clear(self) -> None:
        self._ballast.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallDisk]:
    if os.geteuid() != 0:
        pytest.skip("mounts a file system")
    state = tmp_path_factory.mktemp("full") / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", state], check=True)
    try:
        yield SmallDisk(state)
        assert_none(state)
    finally:
        deadline = time.monotonic() + 15
        while subprocess.run(["umount", state], capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline, "the supervisor still works there"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def build(small_disk: SmallDisk) -> Iterator[Build]:
    if problems := LibvirtProvider().check():
        pytest.skip("; ".join(map(str, problems)))
    with pytest.MonkeyPatch.context() as patch, contextlib.closing(Portal()) as portal:
        patch.setenv("CARTHAGE_IMAGES", str(root.images_root()))
        patch.setenv("CARTHAGE_STATE", str(small_disk.folder))
        with building(portal, {"libvirt": LibvirtProvider}) as build:
            portal.call(lambda: ensure(GUEST, portal=portal, note=lambda who, text: None))
            yield build


@pytest.fixture(scope="module")
def lab(build: Build) -> Lab:
    return build(Lab)


def test_snapshot_for_which_there_is_no_room_is_none_and_the_machine_goes_on(
    lab: Lab, small_disk: SmallDisk
) -> None:
    lab.vm.run("echo before > /root/file; sync")
    small_disk.leave(16)
    with pytest.raises(FabricError) as caught:
        lab.vm.snapshot("full")
    assert re.search(
        r"machine 'vm' of layout 'Lab': snapshot 'full' cannot be kept: .*No space left.*; "
        rf"{small_disk.folder}/runs/\S+ has \d+ MiB free; try: free some",
        str(caught.value),
    )
    assert list(lab.vm.snapshots()) == []
    assert lab.vm.run("cat /root/file").stdout == "before\n"
    small_disk.clear()
    lab.vm.snapshot("later")
    assert list(lab.vm.snapshots()) == ["later"]


def test_write_for_which_there_is_no_room_waits_until_there_is(
    lab: Lab, small_disk: SmallDisk
) -> None:
    small_disk.leave(1)
    write = "dd if=/dev/urandom of=/root/much bs=1M count=24 conv=fsync && echo done > /root/done"
    lab.vm.run(f"({write}) > /dev/null 2>&1 < /dev/null &")
    with pytest.raises(CarthageError, match=r"it stands since .*no room in .*MiB are free"):
        lab.vm.run("until [ -e /root/done ]; do sleep 1; done", timeout_s=60)
    small_disk.clear()
    lab.vm.run("until [ -e /root/done ]; do sleep 1; done", timeout_s=120)
    assert lab.vm.run("stat -c %s /root/much").stdout == f"{24 * MIB}\n"
