"""What images begin with, of each kind: for real, by a plain user, cancelled, killed, mistaken."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import re
import secrets
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from pytest_carthage import Image
from pytest_carthage.errors import BuildError, HostError
from pytest_carthage.fabric import inheritance
from pytest_carthage.fabric.host import execution, programs, subids
from pytest_carthage.images.bases import debian as debian_base
from pytest_carthage.images.bases import hashes
from pytest_carthage.images.bases.debian import simulate
from pytest_carthage.images.bases.making import base_inputs, make_base
from pytest_carthage.images.bases.tools import check_tools
from pytest_carthage.images.bases.values import BaseResult, BaseTools
from pytest_carthage.work.debian.apt import Apt
from tests.support.host import host_cache
from tests.support.unprivileged import account, as_user

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="compares owners and devices; run as root"),
]

PACKAGES = ("hello", "iputils-ping")
#: environment variable that all processes of this module's builds have
MARK = "CARTHAGE_TEST_BASE"


@pytest.fixture(autouse=True)
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "images"
    monkeypatch.setenv("CARTHAGE_IMAGES", str(folder))
    return folder


@pytest.fixture(scope="module")
def cache() -> Path:
    """Packages that were fetched, by whichever test or run on this host needed them first."""
    return host_cache()


def need(*kinds: Any) -> None:
    if problems := check_tools(kinds):
        pytest.skip("; ".join(map(str, problems)))


def make(
    image: Image, tree: Path, cache: Path, *, offline: bool = False, notes: list[str] | None = None
) -> BaseResult:
    tree.mkdir(parents=True)
    tools = BaseTools(
        note=(notes if notes is not None else []).append, offline=offline, cache=cache
    )
    return asyncio.run(make_base(image, tree, tools))


def listing(tree: Path) -> list[tuple[object, ...]]:
    """All that is in a folder: names, kinds, modes, owners, targets, sizes, capabilities."""
    rows: list[tuple[object, ...]] = []
    for path in sorted(tree.rglob("*")):
        info = path.lstat()
        size = info.st_size if stat.S_ISREG(info.st_mode) else info.st_rdev
        target = str(path.readlink()) if path.is_symlink() else ""
        capability = os.listxattr(path, follow_symlinks=False)
        name = str(path.relative_to(tree))
        rows.append((name, oct(info.st_mode), info.st_uid, info.st_gid, size, target, capability))
    return rows


# debian


@pytest.fixture(scope="module")
def debian(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("debian")
    tree = tmp_path_factory.mktemp("debian") / "tree"
    make(Image.debian("bookworm", packages=PACKAGES), tree, cache)
    return tree


def versions(tree: Path) -> dict[str, str]:
    query = ["dpkg-query", f"--admindir={tree}/var/lib/dpkg", "--show"]
    lines = subprocess.run(query, check=True, capture_output=True, text=True).stdout.splitlines()
    rows = (line.split("\t") for line in lines)
    return {name.partition(":")[0]: version for name, version in rows}


def test_debian_has_what_was_asked_for_and_nothing_of_the_host(debian: Path) -> None:
    assert "bookworm" in (debian / "etc/os-release").read_text()
    assert (debian / "usr/bin/hello").exists()
    assert not (debian / "etc/resolv.conf").exists()
    assert not (debian / "etc/hostname").exists()
    apt = debian / "etc/apt"
    assert sorted((apt / "sources.list").read_text().splitlines()) == [
        "deb http://deb.debian.org/debian bookworm main",
        "deb http://deb.debian.org/debian bookworm-updates main",
        "deb http://deb.debian.org/debian-security bookworm-security main",
    ]
    assert (debian / "var/lib/apt/lists").stat().st_mtime == 0
    assert not list((apt / "sources.list.d").iterdir())
    assert not (apt / "apt.conf.d/99mmdebstrap").exists()
    assert stat.S_IMODE((debian / "tmp").stat().st_mode) == 0o1777
    assert stat.S_IMODE(debian.stat().st_mode) == 0o755
    assert [path.name for path in debian.parent.iterdir()] == ["tree"]


def test_debian_is_without_what_no_test_needs(debian: Path) -> None:
    unneeded = ("usr/share/doc", "usr/share/locale", "var/lib/apt/lists", "var/cache/apt")
    for folder in unneeded:
        files = [path for path in (debian / folder).rglob("*") if path.is_file()]
        assert [path.name for path in files if path.name != "lock"] == [], folder
    # update-alternatives(1) links pages into them
    assert (debian / "usr/share/man/man7").is_dir()


def test_debian_keeps_capabilities_of_programs(debian: Path) -> None:
    assert "security.capability" in os.listxattr(debian / "usr/bin/ping")


def test_what_was_told_before_is_what_is_made(debian: Path, cache: Path) -> None:
    versions_before = asyncio.run(simulate(Image.debian("bookworm", packages=PACKAGES), cache))
    assert versions_before == versions(debian)


#: what apt says that it would install: name and version
_INST = re.compile(r"Inst (\S+) (?:\[\S+\] )?\((\S+) .*\)")


@pytest.mark.parametrize("variant", ["apt", "buildd"])
def test_variant_is_told_as_mmdebstrap_would_make_it(
    variant: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mmdebstrap is given what it is given for a base, and installs nothing: see --simulate."""
    need("debian")
    image = Image.debian("trixie", variant=variant)
    expected = asyncio.run(simulate(image, cache))
    lines: list[str] = []

    async def only_tell(argv: Sequence[str], **more: Any) -> execution.Ended:
        at = argv.index(f"--variant={variant}")
        argv = [*argv[:at], "--simulate", "--verbose", *argv[at:]]
        return await execution.run(argv, **{**more, "tell": lines.append})

    async def nothing(*words: object, **more: object) -> tuple[list[object], list[Path]]:
        return [], []

    monkeypatch.setattr(debian_base, "run", only_tell)
    monkeypatch.setattr(Apt, "get_base", nothing)
    make(image, tmp_path / "work" / "tree", cache)
    assert {match[1]: match[2] for line in lines if (match := _INST.match(line))} == expected


def test_all_that_debian_is_made_of_is_handed_over_offline(
    debian: Path, bench: Bench, tmp_path: Path
) -> None:
    bench.mmdebstrap(
        'echo "I: extracting archives..." >&2; eval "tree=\\${$(($# - 1))}"\n'
        f'ls "$tree/var/cache/apt/archives" > {tmp_path}/archives\n'
        f'ls "$tree/var/lib/apt/lists" > {tmp_path}/lists'
    )
    image = Image.debian("bookworm", packages=PACKAGES)
    result = make(image, bench.tree, bench.cache, offline=True, notes=bench.notes)
    names = [name for name in (tmp_path / "archives").read_text().split() if name != "partial"]
    handed = dict(name.removesuffix(".deb").split("_")[:2] for name in names)
    assert {name: unquote(version) for name, version in handed.items()} == versions(debian)
    assert any(name.endswith("InRelease") for name in (tmp_path / "lists").read_text().split())
    assert result.config["env"] == {"LANG": "C.UTF-8"}
    assert bench.notes == ["extracting archives"]  # nothing was fetched


def test_offline_packages_that_are_not_here_are_named(
    debian: Path, cache: Path, tmp_path: Path
) -> None:
    image = Image.debian("bookworm", packages=["sl"], name="train")
    with pytest.raises(BuildError, match=r"image 'train' \(Debian .*cache: .*sl:?\w*=\S+; try:"):
        make(image, tmp_path / "tree", cache, offline=True)
    assert not list((tmp_path / "tree").iterdir())


def test_offline_suite_that_is_not_here_is_named(cache: Path, tmp_path: Path) -> None:
    need("debian")
    with pytest.raises(BuildError, match=r"(?s)offline, and there are no package lists.*sid.*try:"):
        make(Image.debian("sid"), tmp_path / "tree", cache, offline=True)


def test_package_that_does_not_exist_is_told_before_anything_is_made(
    cache: Path, tmp_path: Path
) -> None:
    need("debian")
    image = Image.debian("bookworm", packages=["ngnix"], name="web")
    with pytest.raises(BuildError, match=r"image 'web' \(Debian bookworm with ngnix\): .*'ngnix'"):
        make(image, tmp_path / "tree", cache)
    assert not list((tmp_path / "tree").iterdir())


# by a stand-in for mmdebstrap


class Bench:
    """A place to make a base, with a stand-in for mmdebstrap."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
        self.mark = secrets.token_hex(6)
        self.programs = tmp_path / "bin"
        self.programs.mkdir()
        self.tree = tmp_path / "work" / "tree"
        self.cache = cache
        self.notes: list[str] = []
        monkeypatch.setenv(MARK, self.mark)
        # the only variable of pytest's that builds have: they are found by it
        monkeypatch.setattr(inheritance, "_OF_PROGRAMS", {*inheritance._OF_PROGRAMS, MARK})
        monkeypatch.setattr(execution, "PATH", f"{self.programs}:{programs.PATH}")

    def mmdebstrap(self, script: str) -> None:
        path = self.programs / "mmdebstrap"
        path.write_text(f"#!/bin/sh\nset -e\n{script}\n")
        path.chmod(0o755)

    def make(self) -> BaseResult:
        image = Image.debian("bookworm", name="stand-in")
        return make(image, self.tree, self.cache, notes=self.notes)

    def traces(self) -> list[str]:
        """Processes and mounts of a build."""
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        return [*_processes(self.mark), *(line for line in mounts if str(self.tree) in line)]


def _processes(mark: str) -> list[str]:
    processes = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            is_ours = f"{MARK}={mark}".encode() in (entry / "environ").read_bytes()
            if is_ours and entry.name != str(os.getpid()):
                processes.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return processes


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Bench:
    need("debian")
    return Bench(tmp_path, monkeypatch, cache)


@pytest.fixture
def no_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is resolved or fetched: how a build ends has nothing to do with packages."""

    async def get_base(*words: object, **more: object) -> tuple[list[object], list[Path]]:
        return [], []

    @contextlib.asynccontextmanager
    async def listed(*words: object) -> AsyncIterator[list[Path]]:
        yield []

    monkeypatch.setattr(Apt, "get_base", get_base)
    monkeypatch.setattr(Apt, "listed", listed)


SLOW = "mount -t tmpfs tmpfs /mnt; echo 'I: installing packages...' >&2; sleep 77 & sleep 78"


@pytest.mark.usefixtures("no_packages")
def test_failed_build_tells_the_last_lines(bench: Bench) -> None:
    bench.mmdebstrap("echo 'I: installing things...' >&2; echo 'E: no, thanks' >&2; exit 25")
    with pytest.raises(BuildError, match=r"image 'stand-in' \(Debian bookworm\): .*status 25") as e:
        bench.make()
    assert "the last lines:\n  I: installing things...\n  E: no, thanks\ntry: " in str(e.value)
    assert bench.notes[-1] == "installing things"
    assert not bench.traces()


@pytest.mark.usefixtures("no_packages")
def test_full_disk_is_told_with_what_is_free(bench: Bench) -> None:
    bench.mmdebstrap("head -c 1 /dev/zero > /dev/full")
    with pytest.raises(
        BuildError, match=r"(?s)No space left on device.*work has \d+ MiB free.*try: "
    ):
        bench.make()


@pytest.mark.usefixtures("no_packages")
def test_build_has_no_network_and_no_password(bench: Bench, tmp_path: Path) -> None:
    bench.mmdebstrap(f"cat > {tmp_path}/given; cat /proc/net/dev > {tmp_path}/net")
    bench.make()
    assert "Types: deb" in (tmp_path / "given").read_text()
    interfaces = (tmp_path / "net").read_text().splitlines()[2:]
    assert [line.split(":")[0].strip() for line in interfaces] in ([], ["lo"])


@pytest.mark.usefixtures("no_packages")
def test_cancelled_build_leaves_nothing(bench: Bench) -> None:
    bench.mmdebstrap(SLOW)
    bench.tree.mkdir(parents=True)

    async def go() -> None:
        begun = asyncio.Event()
        tools = BaseTools(
            note=lambda text: begun.set() if text.startswith("installing") else None,
            cache=bench.cache,
        )
        task = asyncio.create_task(make_base(Image.debian("bookworm"), bench.tree, tools))
        await asyncio.wait_for(begun.wait(), 30)
        assert bench.traces(), "this test looks at the wrong place"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(go())
    assert not bench.traces()


BUILD = """
import asyncio, os, sys
from pathlib import Path
from pytest_carthage import Image
from pytest_carthage.fabric import inheritance
from pytest_carthage.fabric.host import execution
from pytest_carthage.images.bases.making import make_base
from pytest_carthage.images.bases.values import BaseTools
inheritance._OF_PROGRAMS = {*inheritance._OF_PROGRAMS, "CARTHAGE_TEST_BASE"}
if programs := sys.argv[1]:
    execution.PATH = programs
tree, cache = map(Path, sys.argv[2:4])
tree.mkdir(parents=True)
cache.mkdir(exist_ok=True)
image = eval(sys.argv[4])
note = lambda text: print(text, flush=True)
tools = BaseTools(note=note, cache=cache, privileged=os.geteuid() == 0)
print(asyncio.run(make_base(image, tree, tools)))
"""


def test_killed_build_leaves_nothing(bench: Bench) -> None:
    bench.mmdebstrap(SLOW)
    image = "Image.debian('bookworm')"
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            BUILD,
            f"{bench.programs}:{programs.PATH}",
            str(bench.tree),
            str(bench.cache),
            image,
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    ) as build:
        assert build.stdout is not None
        assert any(line.startswith("installing") for line in build.stdout)
        assert len(bench.traces()) > 2
        build.send_signal(signal.SIGKILL)
    _wait_for_nothing(bench.mark, bench.tree)


def _wait_for_nothing(mark: str, tree: Path) -> None:
    deadline = time.monotonic() + 10
    while left := _processes(mark):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    assert str(tree) not in Path("/proc/self/mounts").read_text()


def test_host_without_tools_is_told_with_their_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_carthage.fabric.host.programs.PATH", str(tmp_path))
    packages = {problem.packages for problem in check_tools(["debian", "oci", "disk"])}
    assert {("mmdebstrap",), ("skopeo",), ("qemu-utils",)} <= packages
    tools = BaseTools(note=print, cache=tmp_path)
    with pytest.raises(HostError, match=r"no mmdebstrap, .*; try: apt-get install mmdebstrap"):
        asyncio.run(make_base(Image.debian("bookworm"), tmp_path / "tree", tools))


# a small tree, for kinds that take what somebody has


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root file system with what is easily lost: owners, modes, links, capabilities, devices."""
    folder = tmp_path / "root"
    for name in ("bin", "etc", "usr/lib", "var/log", "run", "dev"):
        (folder / name).mkdir(parents=True)
    (folder / "etc" / "motd").write_text("hello\n")
    (folder / "etc" / "shadow").write_text("root:*\n")
    (folder / "etc" / "shadow").chmod(0o640)
    os.chown(folder / "etc" / "shadow", 0, 42)
    program = folder / "bin" / "program"
    program.write_bytes(b"\x7fELF\0")
    program.chmod(0o4755)
    os.link(program, folder / "bin" / "same")
    (folder / "var" / "run").symlink_to("/run")
    (folder / "bin" / "caps").write_bytes(b"\0")
    capability = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)  # capabilities(7), version 2
    os.setxattr(folder / "bin" / "caps", "security.capability", capability)
    os.mknod(folder / "dev" / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (folder / "var" / "log").chmod(0o1777)
    return folder


def test_folder_is_copied_as_it_is(root: Path, tmp_path: Path) -> None:
    result = make(Image.rootfs(root), tmp_path / "tree", tmp_path)
    assert listing(tmp_path / "tree") == listing(root)
    assert result.digest.startswith("sha256:")
    linked = (tmp_path / "tree" / "bin" / "same").stat()
    assert linked.st_nlink == 2


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.xz"])
def test_tar_is_unpacked_as_it_is(suffix: str, root: Path, tmp_path: Path) -> None:
    tar = tmp_path / f"root{suffix}"
    pack = ["tar", "--xattrs", "--xattrs-include=*", "-caf", str(tar), "-C", str(root), "."]
    subprocess.run(pack, check=True)
    make(Image.rootfs(tar), tmp_path / "tree", tmp_path)
    assert listing(tmp_path / "tree") == listing(root)


def test_file_that_is_no_tar_is_told(tmp_path: Path) -> None:
    (tmp_path / "root.tar").write_bytes(b"no tar" * 1000)
    with pytest.raises(BuildError, match=r"(?s)image 'root' .*tar ended with status 2;.*try: tar"):
        make(Image.rootfs(tmp_path / "root.tar"), tmp_path / "tree", tmp_path)


def test_folder_without_a_root_file_system_is_told(tmp_path: Path) -> None:
    (tmp_path / "stuff" / "readme").mkdir(parents=True)
    with pytest.raises(BuildError, match=r"no root file system in it: neither bin, usr nor etc"):
        make(Image.rootfs(tmp_path / "stuff"), tmp_path / "tree", tmp_path)


@pytest.mark.parametrize("kind", ["rootfs", "disk", "containerfile"])
def test_path_that_is_not_there_is_told(kind: str, tmp_path: Path) -> None:
    image = getattr(Image, kind)(tmp_path / "missing")
    with pytest.raises(BuildError, match=r"image '\w+' .*missing is not there; try: another path"):
        asyncio.run(base_inputs(image))


# what keys are made of


def inputs(image: Image) -> dict[str, str]:
    return asyncio.run(base_inputs(image))


def test_inputs_change_with_names_modes_owners_and_contents(root: Path) -> None:
    image = Image.rootfs(root)
    states = [inputs(image)]
    (root / "etc" / "motd").write_text("HELLO\n")
    states.append(inputs(image))
    (root / "etc" / "motd").chmod(0o600)
    states.append(inputs(image))
    os.chown(root / "etc" / "motd", 5, 5)
    states.append(inputs(image))
    (root / "etc" / "motd").rename(root / "etc" / "motto")
    states.append(inputs(image))
    (root / "var" / "run").unlink()
    (root / "var" / "run").symlink_to("../run")
    states.append(inputs(image))
    assert len({state[str(root)] for state in states}) == len(states)
    assert inputs(image) == states[-1]


def test_times_of_files_change_no_input(root: Path) -> None:
    before = inputs(Image.rootfs(root))
    os.utime(root / "etc" / "motd", (0, 0))
    assert inputs(Image.rootfs(root)) == before


def test_big_file_is_read_once(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images.mkdir(exist_ok=True)
    path = tmp_path / "disk.raw"
    path.write_bytes(b"\0" * (2 << 20))
    reads: list[Path] = []
    plain = hashes._file_hash

    def counted(path: Path) -> str:
        reads.append(path)
        return plain(path)

    monkeypatch.setattr(hashes, "_file_hash", counted)
    monkeypatch.setattr(hashes, "_SETTLED_S", 0.0)
    first = inputs(Image.disk(path))
    assert inputs(Image.disk(path)) == first
    assert len(reads) == 1
    with path.open("r+b") as file:
        file.write(b"x")
    assert inputs(Image.disk(path)) != first
    assert len(reads) == 2


def test_file_that_was_just_changed_is_read_again(tmp_path: Path, images: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(b"\0" * (2 << 20))
    inputs(Image.disk(path))
    assert not (images / "hashes.json").exists()


def test_who_only_looks_leaves_no_folder_of_images(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(b"\0" * (2 << 20))
    monkeypatch.setattr(hashes, "_SETTLED_S", 0.0)
    assert not images.exists()
    inputs(Image.disk(path))
    assert not images.exists()


def test_debian_has_no_inputs() -> None:
    assert inputs(Image.debian("bookworm")) == {}


# oci


def archive(path: Path, *layers: dict[str, Any], config: dict[str, Any] | None = None) -> Path:
    """An image of hand-made layers, as ``docker save`` writes it. Values: text, or a TarInfo."""
    names, ids = [], []
    with tarfile.open(path, "w") as out:

        def add(name: str, data: bytes) -> None:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))

        for number, files in enumerate(layers):
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as layer:
                for name, value in files.items():
                    told = value if isinstance(value, tarfile.TarInfo) else tarfile.TarInfo(name)
                    told.name = name
                    data = value.encode() if isinstance(value, str) else b""
                    told.size = len(data)
                    layer.addfile(told, io.BytesIO(data))
            add(f"{number}.tar", buffer.getvalue())
            names.append(f"{number}.tar")
            ids.append(f"sha256:{_sha256(buffer.getvalue())}")
        told_config = {
            "architecture": "amd64",
            "os": "linux",
            "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": ids},
        }
        add("config.json", json.dumps(told_config).encode())
        manifest = [{"Config": "config.json", "RepoTags": None, "Layers": names}]
        add("manifest.json", json.dumps(manifest).encode())
    return path


def _sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def entry(kind: bytes, **fields: Any) -> tarfile.TarInfo:
    made = tarfile.TarInfo()
    made.type = kind
    made.mode = 0o755
    for name, value in fields.items():
        setattr(made, name, value)
    return made


FOLDER = tarfile.DIRTYPE


def unpacked(tmp_path: Path, *layers: dict[str, Any]) -> Path:
    need("oci")
    path = archive(tmp_path / "image.tar", *layers)
    make(Image.oci(f"docker-archive:{path}"), tmp_path / "work" / "tree", tmp_path)
    assert [one.name for one in (tmp_path / "work").iterdir()] == ["tree"]
    return tmp_path / "work" / "tree"


def test_layers_are_applied_with_their_whiteouts(tmp_path: Path) -> None:
    tree = unpacked(
        tmp_path,
        {"etc": entry(FOLDER), "etc/a": "a", "etc/b": "b", "opt/x/old": "1", "opt/x/sub/old": "2"},
        {"etc/.wh.a": "", "etc/c": "c", "opt/x/new": "3", "opt/x/.wh..wh..opq": ""},
    )
    assert sorted(path.name for path in (tree / "etc").iterdir()) == ["b", "c"]
    assert [path.name for path in (tree / "opt/x").iterdir()] == ["new"]


def test_file_replaces_folder_and_folder_replaces_link(tmp_path: Path) -> None:
    tree = unpacked(
        tmp_path,
        {"a/file": "1", "b": entry(tarfile.SYMTYPE, linkname="a"), "c": "one", "d": "keep"},
        {"a": "file", "b": entry(FOLDER), "b/x": "2", "c": entry(tarfile.LNKTYPE, linkname="d")},
    )
    assert (tree / "a").read_text() == "file"
    assert not (tree / "b").is_symlink()
    assert (tree / "c").stat().st_ino == (tree / "d").stat().st_ino


def test_absolute_link_of_an_image_leads_nowhere_on_the_host(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    tree = unpacked(
        tmp_path,
        {"etc/x": "", "var/run": entry(tarfile.SYMTYPE, linkname=str(outside))},
        {"var/run/pid": "1", "var/run/.wh.other": ""},
    )
    assert not list(outside.iterdir())
    # as an overlay of the two shows it: a folder takes the place of the link
    assert not (tree / "var/run").is_symlink()
    assert (tree / "var/run/pid").read_text() == "1"


def test_owners_modes_and_capabilities_of_layers_are_kept(tmp_path: Path) -> None:
    capability = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)
    headers = {"SCHILY.xattr.security.capability": capability.decode("utf-8", "surrogateescape")}
    file = entry(tarfile.REGTYPE, uid=7, gid=8, mode=0o4711, mtime=1000, pax_headers=headers)
    tree = unpacked(tmp_path, {"dir": entry(FOLDER, mtime=2000, mode=0o1777), "dir/file": file})
    info = (tree / "dir/file").stat()
    assert (info.st_uid, info.st_gid, info.st_mtime) == (7, 8, 1000)
    assert stat.S_IMODE(info.st_mode) == 0o4711
    assert os.getxattr(tree / "dir/file", "security.capability") == capability
    assert (tree / "dir").stat().st_mtime == 2000
    assert stat.S_IMODE((tree / "dir").stat().st_mode) == 0o1777


def test_configuration_of_an_image_is_told(tmp_path: Path) -> None:
    need("oci")
    config = {"Entrypoint": ["/init"], "Cmd": ["-v"], "Env": ["A=b=c"], "Labels": {"x": "y"}}
    config |= {"User": "daemon", "WorkingDir": "/srv", "StopSignal": "SIGQUIT"}
    config |= {"Volumes": {"/data": {}}}
    config |= {"Healthcheck": {"Test": ["CMD-SHELL", "probe"], "Interval": 2 * 10**9}}
    path = archive(tmp_path / "image.tar", {"etc/x": ""}, config=config)
    result = make(Image.oci(f"docker-archive:{path}"), tmp_path / "tree", tmp_path)
    assert result.config == {
        "command": ["/init", "-v"],
        "env": {"A": "b=c"},
        "labels": {"x": "y"},
        "user": "daemon",
        "workdir": "/srv",
        "stop_signal": "SIGQUIT",
        "volumes": ["/data"],
        "healthcheck": {"command": ["/bin/sh", "-c", "probe"], "interval_s": 2.0},
    }
    assert result.digest.startswith("sha256:")


def test_archive_that_changes_is_another_input(tmp_path: Path) -> None:
    path = archive(tmp_path / "image.tar", {"etc/x": "1"})
    image = Image.oci(f"docker-archive:{path}")
    before = inputs(image)
    archive(path, {"etc/x": "2"})
    assert inputs(image) != before


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[str]:
    """A small image in the host's own store."""
    need("oci", "containerfile")
    name = f"localhost/carthage-test-{secrets.token_hex(4)}:one"
    path = archive(tmp_path / "stored.tar", {"etc/x": "stored"}, {"bin/y": "y"})
    copy = ["skopeo", "copy", "--quiet", f"docker-archive:{path}", f"containers-storage:{name}"]
    private = ["unshare", "--mount"]
    subprocess.run([*private, *copy], check=True, capture_output=True)
    yield name
    subprocess.run([*private, "podman", "rmi", "--force", name], check=True, capture_output=True)


def test_image_of_the_hosts_store_is_taken_by_its_name(stored: str, tmp_path: Path) -> None:
    result = make(Image.oci(stored), tmp_path / "tree", tmp_path, offline=True)
    assert (tmp_path / "tree/etc/x").read_text() == "stored"
    (identity,) = inputs(Image.oci(stored)).values()
    assert result.digest == f"sha256:{identity}"
    short = stored.removeprefix("localhost/")
    assert list(inputs(Image.oci(short)).values()) == [identity]


def test_image_that_is_missing_is_told_with_similar_ones(stored: str) -> None:
    wanted = f"{stored}x"
    with pytest.raises(BuildError, match=rf"not in this host's store; .*{stored}.*podman pull"):
        inputs(Image.oci(wanted))


def test_offline_registries_are_refused_by_name(tmp_path: Path) -> None:
    need("oci")
    image = Image.oci("docker://registry.invalid/app:1")
    with pytest.raises(BuildError, match=r"offline, and registry\.invalid/app:1 is fetched from"):
        make(image, tmp_path / "tree", tmp_path, offline=True)
    assert inputs(image) == {}


def test_archive_that_is_damaged_is_told(tmp_path: Path) -> None:
    need("oci")
    path = archive(tmp_path / "image.tar", {"etc/x": "1"})
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(BuildError, match=r"(?s)skopeo ended with status \d.*try: skopeo inspect"):
        make(Image.oci(f"docker-archive:{path}"), tmp_path / "tree", tmp_path)
    assert [one.name for one in tmp_path.glob("tree*")] == ["tree"]


# containerfile


@pytest.fixture
def context(tmp_path: Path) -> Path:
    need("containerfile")
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "data").write_text("data\n")
    text = 'FROM scratch\nCOPY data /etc/data\nENV A=b\nUSER daemon\nCMD ["x"]\n'
    (folder / "Containerfile").write_text(text)
    return folder


def host_images() -> str:
    done = subprocess.run(
        ["unshare", "--mount", "podman", "images", "--all", "--quiet"],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def test_containerfile_is_built_beside_the_hosts_store(context: Path, tmp_path: Path) -> None:
    before = host_images()
    notes: list[str] = []
    image = Image.containerfile(context / "Containerfile")
    result = make(image, tmp_path / "tree", tmp_path, notes=notes)
    assert (tmp_path / "tree/etc/data").read_text() == "data\n"
    assert (result.config["command"], result.config["user"]) == (["x"], "daemon")
    assert result.config["env"]["A"] == "b"
    assert notes[1] == "step 2/5: COPY data /etc/data"
    assert host_images() == before
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()


def test_containerfile_begins_with_an_image_of_the_host(
    stored: str, context: Path, tmp_path: Path
) -> None:
    (context / "Containerfile").write_text(f"FROM {stored}\nCOPY data /data\n")
    make(Image.containerfile(context / "Containerfile"), tmp_path / "tree", tmp_path, offline=True)
    assert (tmp_path / "tree/etc/x").read_text() == "stored"
    assert (tmp_path / "tree/data").exists()


def test_offline_containerfile_whose_base_is_not_here_is_told(
    context: Path, tmp_path: Path
) -> None:
    (context / "Containerfile").write_text("FROM localhost/carthage-nowhere:1\n")
    with pytest.raises(BuildError, match=r"(?s)image 'context' .*nowhere.*try: podman pull with a"):
        make(
            Image.containerfile(context / "Containerfile"),
            tmp_path / "tree",
            tmp_path,
            offline=True,
        )


def test_containerfile_and_context_are_inputs(context: Path) -> None:
    image = Image.containerfile(context / "Containerfile")
    first = inputs(image)
    assert set(first) == {str(context / "Containerfile"), str(context)}
    (context / "data").write_text("other\n")
    assert inputs(image) != first


def _copy_programs(debian: Path, tree: Path, *names: str) -> None:
    """Make a root file system of a few programs."""
    loaded = subprocess.run(
        ["chroot", str(debian), "ldd", *(f"/bin/{name}" for name in names)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    libraries = re.findall(r"(?:^|\s)(/lib\S+) \(0x", loaded)
    for path in {*(f"/bin/{name}" for name in names), *libraries}:
        target = tree / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        inside = ["chroot", str(debian), "cat", path]
        with target.open("wb") as file:
            subprocess.run(inside, stdout=file, check=True)
        target.chmod(0o755)


def test_killed_build_of_a_containerfile_leaves_nothing(
    debian: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("containerfile")
    mark = secrets.token_hex(6)
    monkeypatch.setenv(MARK, mark)
    context = tmp_path / "context"
    _copy_programs(debian, context / "tree", "sh", "sleep")
    file = context / "Containerfile"
    file.write_text("FROM scratch\nCOPY tree/ /\nRUN sleep 79\n")
    tree = tmp_path / "work" / "tree"
    image = f"Image.containerfile({str(file)!r})"
    with subprocess.Popen(
        [sys.executable, "-c", BUILD, "", str(tree), str(tmp_path / "cache"), image],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    ) as build:
        assert build.stdout is not None
        assert any("sleep 79" in line for line in build.stdout)
        build.send_signal(signal.SIGKILL)
    _wait_for_nothing(mark, tree)
    # what it has left in a store of its own does not keep the next from working
    (tmp_path / "Containerfile").write_text("FROM scratch\nCOPY Containerfile /etc/c\n")
    next_one = Image.containerfile(tmp_path / "Containerfile", context=tmp_path / "small")
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "Containerfile").write_text("c")
    make(next_one, tmp_path / "next", tmp_path / "cache")
    listed = (tmp_path / "cache/containerfiles/root").glob("*-containers/containers.json")
    assert [json.loads(path.read_text()) for path in listed] == [[]]


# disk


def disk(root: Path, path: Path, *, partitions: bool) -> Path:
    need("disk")
    plain = path.with_suffix(".ext4")
    made = ["mke2fs", "-q", "-t", "ext4", "-d", str(root), str(plain), "16M"]
    subprocess.run(made, check=True)
    if not partitions:
        return plain
    sector = 512
    table = bytearray(sector)
    rows = ((2048, 2048), (4096, plain.stat().st_size // sector))
    for number, (start, length) in enumerate(rows):  # the first is empty, as one for a loader
        at = 446 + 16 * number
        table[at : at + 16] = struct.pack("<B3sB3sII", 0, b"", 0x83, b"", start, length)
    table[510:] = b"\x55\xaa"
    with path.open("wb") as out:
        out.write(table)
        out.seek(4096 * sector)
        out.write(plain.read_bytes())
    return path


@pytest.mark.parametrize("partitions", [False, True], ids=["plain", "partitions"])
@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_disk_gives_its_root_file_system(
    form: str, partitions: bool, root: Path, tmp_path: Path
) -> None:
    path = disk(root, tmp_path / "disk.raw", partitions=partitions)
    if form == "qcow2":
        qcow = tmp_path / "disk.qcow2"
        convert = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(path), str(qcow)]
        subprocess.run(convert, check=True)
        path = qcow
    before = path.read_bytes()
    make(Image.disk(path), tmp_path / "work" / "tree", tmp_path)
    assert listing(tmp_path / "work" / "tree") == listing(root)
    assert path.read_bytes() == before
    assert [one.name for one in (tmp_path / "work").iterdir()] == ["tree"]
    loops = subprocess.run(["losetup", "--all"], check=True, capture_output=True, text=True).stdout
    assert str(tmp_path) not in loops


def test_disk_without_a_root_file_system_is_told(tmp_path: Path) -> None:
    need("disk")
    (tmp_path / "empty.raw").write_bytes(b"\0" * (4 << 20))
    with pytest.raises(BuildError, match=r"image 'empty' .*no root file system.*unknown of 4 MiB"):
        make(Image.disk(tmp_path / "empty.raw"), tmp_path / "tree", tmp_path)


def test_disk_that_is_damaged_is_told(tmp_path: Path) -> None:
    need("disk")
    (tmp_path / "bad.qcow2").write_bytes(b"QFI\xfb" + b"\xff" * 1000)
    with pytest.raises(BuildError, match=r"(?s)qemu-img ended with status 1;.*try: qemu-img check"):
        make(Image.disk(tmp_path / "bad.qcow2"), tmp_path / "tree", tmp_path)


# without privileges


@pytest.fixture
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A plain user, and a folder that is theirs where they can get to it."""
    if problems := [one for one in check_tools(["debian", "oci"]) if one.packages]:
        pytest.skip("; ".join(map(str, problems)))
    home = Path("/var/tmp") / f"carthage-{secrets.token_hex(4)}"
    home.mkdir(mode=0o755)
    try:
        with account() as name:
            yield name, home
    finally:
        subprocess.run(["rm", "-rf", str(home)], check=True)


def as_plain(user: str, home: Path, image: str) -> tuple[Path, str]:
    tree = home / "work" / "tree"
    argv = [sys.executable, "-c", BUILD, "", str(tree), str(home / "apt"), image]
    done = subprocess.run(
        as_user(argv, home=home, user=user),
        capture_output=True,
        text=True,
        env={**os.environ, "CARTHAGE_IMAGES": str(home / "images")},
        cwd=Path(__file__).resolve().parents[2],
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return tree, done.stdout


@pytest.mark.skipif(not Path("/usr/bin/newuidmap").exists(), reason="no uidmap")
def test_plain_user_makes_debian_with_owners_of_their_own_documentation_and_locales(
    plain: tuple[str, Path],
) -> None:
    """Debian is made once for all of these: it takes longer than what else is tested here."""
    user, home = plain
    more = "packages=['hello', 'iputils-ping'], docs=True, locales=['de_DE.UTF-8']"
    tree, _ = as_plain(user, home, f"Image.debian('bookworm', {more})")
    owner, group = ((tree / "etc/shadow").stat().st_uid, (tree / "etc/shadow").stat().st_gid)
    assert owner == home.stat().st_uid, "root inside is this user outside"
    assert group >= 100_000, "other ids are subordinate ones"
    assert "bookworm" in (tree / "etc/os-release").read_text()
    assert [path.name for path in tree.parent.iterdir()] == ["tree"]
    assert (tree / "usr/share/doc/bash/copyright").exists()
    assert (tree / "usr/share/man/man1/hello.1.gz").exists()
    assert (tree / "usr/share/man/man1/ls.1.gz").exists()
    translations = sorted(path.name for path in (tree / "usr/share/locale").iterdir())
    assert translations == ["de", "locale.alias"]
    assert (tree / "usr/share/locale/de/LC_MESSAGES/hello.mo").exists()
    listed = subprocess.run(
        ["localedef", f"--prefix={tree}", "--list-archive"], capture_output=True, text=True
    )
    assert "de_DE.utf8" in listed.stdout
    assert "left out" in (tree / "etc/dpkg/dpkg.cfg.d/carthage").read_text()


@pytest.mark.skipif(not Path("/usr/bin/newuidmap").exists(), reason="no uidmap")
def test_plain_user_unpacks_tars_and_images(
    plain: tuple[str, Path], root: Path, tmp_path: Path
) -> None:
    user, home = plain
    subprocess.run(["tar", "-cf", f"{home}/root.tar", "-C", str(root), "."], check=True)
    tree, _ = as_plain(user, home, f"Image.rootfs('{home}/root.tar')")
    assert (tree / "etc/motd").read_text() == "hello\n"
    assert not (tree / "dev/null").exists(), "no user namespace makes devices"
    subprocess.run(["rm", "-rf", str(tree.parent)], check=True)
    archive(home / "image.tar", {"etc/x": entry(tarfile.REGTYPE, uid=0, gid=42)})
    tree, _ = as_plain(user, home, f"Image.oci('docker-archive:{home}/image.tar')")
    assert (tree / "etc/x").stat().st_gid >= 100_000


def test_plain_user_without_subordinate_ids_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = "/nowhere/subuid", "/nowhere/subgid"
    monkeypatch.setattr(subids.problems, "__defaults__", (nowhere,))
    problems = check_tools(["rootfs"], privileged=False)
    assert [problem.what for problem in problems if "subordinate" in problem.what] == [
        "no 65536 subordinate ids for user root in /nowhere/subuid and /nowhere/subgid"
    ]
    assert "usermod --add-subuids 100000-165535" in str(problems[-1])


def test_old_util_linux_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_carthage.images.bases.tools._util_linux", lambda: (2, 36))
    problems = [str(problem) for problem in check_tools(["rootfs"], privileged=False)]
    assert any(
        "util-linux 2.36, whose unshare has no --map-auto" in problem for problem in problems
    )
