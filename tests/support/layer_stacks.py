"""Random stacks of an OCI image's layers, and what podman makes of them.

Many stacks are one image, each below a folder of its own, so that podman is asked once.
"""

from __future__ import annotations

import asyncio
import copy
import gzip
import hashlib
import io
import json
import random
import struct
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pytest_carthage import Image
from pytest_carthage.images.bases.making import make_base
from pytest_carthage.images.bases.values import BaseTools

__all__ = [
    "Facts",
    "Members",
    "Stack",
    "by_podman",
    "differences",
    "look",
    "members_of",
    "unpacked",
    "write_layout",
]

Members = list[tuple[tarfile.TarInfo, bytes]]
Facts = dict[str, dict[str, Any]]

_NAMES = ("a", "b", "c", "d")
_CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0).decode("utf-8", "surrogateescape")

# in the order of no walk: links are grouped by the least of their names
_LOOK = """
import hashlib, json, os, stat, sys
os.chdir(os.fsencode(sys.argv[1]))
found, first = {}, {}
for folder, names, files in os.walk(b"."):
    for name in sorted(names + files):
        path = os.path.join(folder, name)[2:]
        try:
            info = os.lstat(path)
        except FileNotFoundError:  # an overlay lists a deletion in a folder of one layer alone
            continue
        row = {"kind": stat.S_IFMT(info.st_mode), "mode": stat.S_IMODE(info.st_mode),
               "owner": [info.st_uid, info.st_gid], "mtime_ns": info.st_mtime_ns}
        if stat.S_ISREG(info.st_mode):
            row["content"] = hashlib.sha256(open(path, "rb").read()).hexdigest()
        elif stat.S_ISLNK(info.st_mode):
            row["target"] = os.fsdecode(os.readlink(path))
        elif not stat.S_ISDIR(info.st_mode):
            row["device"] = info.st_rdev
        if not stat.S_ISDIR(info.st_mode) and info.st_nlink > 1:
            first.setdefault(info.st_ino, []).append(os.fsdecode(path))
        attributes = os.listxattr(path, follow_symlinks=False)
        row["attributes"] = {n: os.getxattr(path, n, follow_symlinks=False).hex()
                             for n in attributes if "overlay" not in n and "selinux" not in n}
        found[os.fsdecode(path)] = row
for paths in first.values():
    for path in paths if len(paths) > 1 else ():
        found[path]["linked"] = sorted(paths)
print(json.dumps(found))
"""


def look(folder: Path, *before: str) -> Facts:
    """All that is in a folder, by its name.

    :param before: begins the command that looks.
    """
    command = [*before, sys.executable, "-I", "-c", _LOOK, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    facts: Facts = json.loads(done.stdout)
    return facts


class Stack:
    """Layers that are made of a seed: what a differ or a tool may write, and podman takes.

    :param top: folder of all of it.
    """

    def __init__(self, seed: int, top: str, *, height: int = 4) -> None:
        self.seed, self.top = seed, top
        self._random = random.Random(seed)
        #: folders of which some layer says nothing but what is in them
        self.implicit: set[str] = set()
        #: what there may be below, by what layers said so far
        self._below: set[str] = set()
        self.layers = [self._layer() for _ in range(height)]

    def _layer(self) -> Members:
        chance = self._random
        members: Members = [self._member(self.top, tarfile.DIRTYPE)]
        kinds: dict[str, str] = {self.top: "dir"}
        marked, named = set[str](), set[str]()
        for _ in range(chance.randint(1, 9)):
            above = self._folder(kinds)
            if above is None or any(f"{above}/".startswith(f"{mark}/") for mark in marked):
                continue
            path = f"{above}/{chance.choice(_NAMES)}"
            choice = chance.random()
            if choice < 0.15:
                if path not in kinds and path not in marked:
                    members.append(self._marker(f"{above}/.wh.{path.rpartition('/')[2]}"))
                    marked.add(path)
            elif choice < 0.25:
                if f"{above}/" not in marked:
                    members.append(self._marker(f"{above}/.wh..wh..opq"))
                    marked.add(f"{above}/")
            elif path in marked or path in named:
                continue  # podman takes each name once
            else:
                self._add(path, kinds, members)
                named.add(path)
            self._told(above, kinds)
        self._below |= kinds.keys()
        return members

    def _folder(self, kinds: dict[str, str]) -> str | None:
        """Where something is to be: in a folder of the layer, or of one below, or a new one."""
        chance = self._random
        path = self.top
        for _ in range(chance.randint(0, 3)):
            path += f"/{chance.choice(_NAMES)}"
            if kinds.get(path, "dir") != "dir":
                return None
        return path

    def _told(self, path: str, kinds: dict[str, str]) -> None:
        while path not in kinds:
            kinds[path] = "dir"
            self.implicit.add(path)
            path = path.rpartition("/")[0]

    def _add(self, path: str, kinds: dict[str, str], members: Members) -> None:
        chance = self._random
        before = kinds.get(path)
        choice = chance.random()
        if choice < 0.4 or before == "dir":
            members.append(self._member(path, tarfile.DIRTYPE))
            kinds[path] = "dir"
        elif choice < 0.65:
            members.append(self._member(path, tarfile.REGTYPE))
            kinds[path] = "file"
        elif choice < 0.85:
            names = "/".join(chance.choices((*_NAMES, ".."), k=chance.randint(1, 3)))
            target = f"/{self.top}/{names}" if chance.random() < 0.4 else names
            members.append(self._member(path, tarfile.SYMTYPE, target))
            kinds[path] = "link"
        elif choice < 0.93 and (
            files := [one for one, kind in kinds.items() if kind == "file" and one != path]
        ):
            members.append(_hard_link(path, chance.choice(files), members))
            kinds[path] = "file"
        else:
            kind = chance.choice((tarfile.FIFOTYPE, tarfile.CHRTYPE))
            members.append(self._member(path, kind))
            kinds[path] = "special"

    def _marker(self, name: str) -> tuple[tarfile.TarInfo, bytes]:
        return tarfile.TarInfo(name), b""

    def _member(self, name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
        chance = self._random
        info = tarfile.TarInfo(chance.choice((name, f"./{name}", f"/{name}", name)))
        info.type, info.linkname = kind, target
        info.mode = chance.choice((0o755, 0o700, 0o1777, 0o644, 0o4711, 0o2750))
        info.uid, info.gid = chance.choice(((0, 0), (1000, 1000), (5, 70000), (3000000, 0)))
        headers = {}
        when = f"{chance.randint(10**9, 16 * 10**8)}.{chance.randint(0, 999999999):09}"
        info.mtime = int(when.partition(".")[0])
        if chance.random() < 0.5:
            headers["mtime"] = when
        if kind in (tarfile.REGTYPE, tarfile.DIRTYPE) and chance.random() < 0.3:
            headers["SCHILY.xattr.user.note"] = chance.choice(("one", "two"))
        if kind == tarfile.REGTYPE and chance.random() < 0.2:
            headers["SCHILY.xattr.security.capability"] = _CAPABILITY
        info.pax_headers = headers
        data = chance.choice((b"", b"x", b"data\n" * 100)) if kind == tarfile.REGTYPE else b""
        info.size = len(data)
        if kind == tarfile.CHRTYPE:
            info.devmajor, info.devminor = 1, 3
        return info, data


def _hard_link(path: str, target: str, members: Members) -> tuple[tarfile.TarInfo, bytes]:
    """One more name of a file, of which it says what its first name says."""
    info = next(copy.copy(info) for info, _ in members if info.name.lstrip("./") == target)
    info.name, info.type, info.linkname, info.size = path, tarfile.LNKTYPE, target, 0
    return info, b""


def members_of(stacks: Sequence[Stack]) -> list[Members]:
    """The layers of one image of all stacks."""
    height = max(len(stack.layers) for stack in stacks)
    return [
        [member for stack in stacks for member in stack.layers[number]] for number in range(height)
    ]


def write_layout(folder: Path, layers: Sequence[Members]) -> str:
    """Write an OCI layout; returns its reference."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    prefix = "application/vnd.oci.image"
    tars = [_tar(members) for members in layers]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars],
        },
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{prefix}.manifest.v1+json",
        "config": {"mediaType": f"{prefix}.config.v1+json", **blob(json.dumps(config).encode())},
        "layers": [
            {
                "mediaType": f"{prefix}.layer.v1.tar+gzip",
                **blob(gzip.compress(tar, 1, mtime=0)),
            }
            for tar in tars
        ],
    }
    row = {"mediaType": manifest["mediaType"], **blob(json.dumps(manifest).encode())}
    row["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [row]}))
    return f"oci:{folder}:latest"


def _tar(members: Members) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(
        fileobj=raw, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape"
    ) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return raw.getvalue()


def unpacked(reference: str, folder: Path) -> Path:
    """What we make of an image: a folder in a new one."""
    folder.mkdir()
    tree = folder / "tree"
    tree.mkdir()
    tools = BaseTools(note=lambda text: None, cache=folder)
    asyncio.run(make_base(Image.oci(reference), tree, tools))
    return tree


def by_podman(reference: str, folder: Path) -> Facts:
    """What podman shows of an image, by an overlay of the kernel.

    :param folder: of a store of its own; it is gone afterwards.
    """
    # whose path may have 50 characters, and which is gone with the namespace, as podman's locks
    run = "/dev/shm/run"
    store = ["--root", f"{folder}/root", "--runroot", run, "--storage-driver=overlay"]
    script = """
        set -e; mount -t tmpfs tmpfs /dev/shm; look=$1; shift
        podman "$@" pull --quiet "$look" > /dev/null
        podman "$@" image mount "$(podman "$@" images --quiet | head -n 1)"
    """
    # what it mounts ends with the namespace
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", f"({script}) && read -r end", "sh", reference, *store],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        mounted = process.stdout.readline().strip()
        assert mounted, process.stderr.read()
        inside = ["nsenter", f"--mount=/proc/{process.pid}/ns/mnt", "--"]
        facts = look(Path(mounted), *inside)
        process.communicate("end\n")
    subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=True)
    return facts


def differences(ours: Facts, theirs: Facts, stacks: Sequence[Stack]) -> Iterator[str]:
    """What is not the same, but for what is known to differ: see the documentation of images.

    A folder of which a layer says nothing, and has something in it, is for podman a new one of
    root's; for us it stays as it is below.
    """
    implicit = {path for stack in stacks for path in stack.implicit}
    seeds = {stack.top: stack.seed for stack in stacks}
    for path in sorted({*ours, *theirs}):
        one, other = ours.get(path), theirs.get(path)
        if path in implicit and one and other and one["kind"] == other["kind"] == 0o040000:
            continue
        if one != other:
            seed = seeds.get(path.partition("/")[0])
            yield f"seed {seed}: {path}: {_short(one, other)}"


def _short(one: dict[str, Any] | None, other: dict[str, Any] | None) -> str:
    if one is None or other is None:
        return f"{one and oct(one['kind'])}, and for podman {other and oct(other['kind'])}"
    keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    return ", ".join(f"{key} {one.get(key)}, and for podman {other.get(key)}" for key in keys)
