"""A layout's images, its lock and its tests in one file, for hosts without a network.

The file is a tar: first ``carthage-bundle.json``, which says what else is in it, with hashes; then
the tests; then the layers of the images, each as the tar that an OCI image has of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import hashlib
import io
import json
import os
import stat
import subprocess
import tarfile
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pytest_carthage.access.inputs import CACHES
from pytest_carthage.errors import BundleError
from pytest_carthage.images import export
from pytest_carthage.images import lock as locks
from pytest_carthage.images.requirements import Requirement, of_files

if TYPE_CHECKING:
    from pytest_carthage.images.lock import Lock
    from pytest_carthage.images.store import Built, Layer
    from pytest_carthage.model.layout import Layout
    from pytest_carthage.planning.plan import Plan

    Note = Callable[[str], None]

__all__ = [
    "FORMAT",
    "MANIFEST",
    "VERSION",
    "Manifest",
    "Member",
    "Suite",
    "compressor",
    "leads_inside",
    "write",
]

FORMAT = "pytest-carthage bundle"
VERSION = 1
#: the first member
MANIFEST = "carthage-bundle.json"

_BLOCK = 512
_CHUNK = 1 << 20
#: what comes and goes by itself, or is of one developer only; at the top of the tests, see below
_LEFT_OUT = (*CACHES, ".coverage*", ".hypothesis", ".nox", ".tox", "*.egg-info", "*.pyc", "*.swp")
_LEFT_OUT_ON_TOP = (".git", ".hg", ".svn")
#: suffix of the file to a program that compresses, and one that undoes it
_COMPRESSORS = {
    ".tar": None,
    ".tar.gz": (("gzip", "-n", "-6", "-c"), ("gzip", "-d", "-c")),
    ".tgz": (("gzip", "-n", "-6", "-c"), ("gzip", "-d", "-c")),
    ".tar.zst": (("zstd", "-q", "-T0", "-6", "-c"), ("zstd", "-q", "-d", "-c")),
    ".tar.xz": (("xz", "-T0", "-3", "-c"), ("xz", "-d", "-c")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member of the tar."""

    #: "file", "folder" or "link"
    kind: str
    #: permission bits
    mode: int = 0o644
    size: int = 0
    sha256: str = ""
    #: where a link leads to
    target: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What is in a bundle."""

    #: name of the layout's class
    layout: str
    #: folder below that of the tests in which pytest is started
    folder: str
    #: as the kernel calls the processor
    architecture: str
    #: kinds of the providers that the layout's machines need
    targets: tuple[str, ...]
    requires: tuple[Requirement, ...]
    #: key, name, tag, keys of layers and configuration of each image
    images: tuple[Mapping[str, Any], ...]
    #: keys, the base first, each below those that stand on it
    layers: tuple[str, ...]
    #: bytes on disk of each layer
    sizes: Mapping[str, int]
    #: name to what it is, in the order of the tar
    members: Mapping[str, Member] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """As it is in the bundle: JSON."""
        told = {"format": FORMAT, "version": VERSION, **asdict(self)}
        return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """The tests that a bundle has."""

    #: what names in the bundle are relative to
    top: Path
    #: the folder of the tests, in which pytest is started
    root: Path
    #: files, folders and links, by their names
    entries: Mapping[str, Path]
    #: read by tasks, and in no bundle
    outside: tuple[Path, ...]


def compressor(path: Path, *, undo: bool = False) -> Sequence[str] | None:
    """The program that compresses a file, by its suffix; None: it is plain.

    :raises BundleError: the suffix is unknown.
    """
    for suffix, programs in _COMPRESSORS.items():
        if path.name.endswith(suffix):
            return None if programs is None else programs[undo]
    known = ", ".join(_COMPRESSORS)
    raise BundleError(f"bundle {path}: its name says nothing of how it is packed; try: {known}")


def gather(root: Path, built: Mapping[str, Built], *, without: Collection[Path]) -> Suite:
    """List what a folder of tests has, and what tasks read beside it.

    :param without: files that are no part of it, as the bundle itself.
    """
    read = sorted({path for one in built.values() for path in locks.files_read(one)})
    # its layer has it, with the owners and permissions that count
    systems = {
        one.image.path.absolute()
        for one in built.values()
        if one.image.kind == "rootfs" and one.image.path is not None and one.image.path.is_dir()
    }
    without = {*(one.absolute() for one in without), *systems}
    read = [path for path in read if path not in systems]
    beside = [path for path in read if not path.is_relative_to(root)]
    near = [path for path in beside if path.is_relative_to(root.parent) and path.exists()]
    top = root.parent if near else root
    entries: dict[str, Path] = {}
    for start, is_tests in [(root, True), *((path, False) for path in near)]:
        for path in _walk(start, root, without, is_tests=is_tests):
            entries[path.relative_to(top).as_posix()] = path
    # a task's files count, whatever they are called
    for path in read:
        if path.is_relative_to(root) and path.exists():
            for one in _walk(path, root, set(), is_tests=False):
                entries[one.relative_to(top).as_posix()] = one
    for name in list(entries):
        for parent in list(PurePosixPath(name).parents)[:-1]:
            entries.setdefault(str(parent), top / parent)
    outside = [path for path in beside if path not in near and locks.package_of(path) is None]
    return Suite(
        top=top,
        root=root,
        entries={name: entries[name] for name in sorted(entries) if name != "."},
        outside=tuple(outside),
    )


def _walk(start: Path, root: Path, without: Collection[Path], *, is_tests: bool) -> Iterator[Path]:
    """A file, or a folder with all that is in it but caches."""
    if start in without:
        return
    yield start
    if start.is_symlink() or not start.is_dir():
        return
    for entry in sorted(start.iterdir()):
        left_out = list(_LEFT_OUT if is_tests else CACHES)
        left_out += _LEFT_OUT_ON_TOP if start == root else []
        if any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in left_out):
            continue
        if is_tests and (entry / "pyvenv.cfg").exists():
            continue
        kind = entry.lstat().st_mode
        if stat.S_ISREG(kind) or stat.S_ISDIR(kind) or stat.S_ISLNK(kind):
            yield from _walk(entry, root, without, is_tests=is_tests)


async def write(
    path: Path,
    layout: type[Layout],
    plan: Plan,
    lock: Lock,
    built: Mapping[str, Built],
    root: Path,
    *,
    more: Sequence[Built] = (),
    note: Note,
) -> tuple[Manifest, Suite]:
    """Write a bundle; it is there whole or not at all.

    :param lock: is packed into the folder of tests.
    :param root: the folder of tests.
    :param more: images that the layout does not declare, as those that stages build.
    :raises BundleError: something cannot be in it.
    :raises BuildError: it cannot be written.
    """
    path = export.absolute(path)
    doing = f"bundle {path}"
    compress = compressor(path)
    if compress is not None:
        export.require(compress[0])
    hidden = path.with_name(f".{path.name}.new")
    suite = await asyncio.to_thread(gather, root, built, without=[path, hidden])
    images = [*(built[name] for name in sorted(built)), *more]
    layers = _layers(images)
    members: dict[str, Member] = {}
    contents: dict[str, bytes] = {}
    for name, place in suite.entries.items():
        members[f"suite/{name}"] = await asyncio.to_thread(_member, place, suite.top, doing)
    folder = root.relative_to(suite.top).as_posix()
    locked = lock.text.encode()
    for name, data in [(PurePosixPath("suite", folder, locks.NAME).as_posix(), locked)]:
        members[name], contents[name] = _of_bytes(data), data
    members = {name: members[name] for name in sorted(members)}
    for number, layer in enumerate(layers, 1):
        note(f"reading layer {number} of {len(layers)}: {layer.meta.title}")
        data = json.dumps(asdict(layer.meta), indent=1, sort_keys=True).encode()
        name = f"layers/{layer.key}/layer.json"
        members[name], contents[name] = _of_bytes(data), data
        packed = await _pack(layer, -1, doing)
        members[f"layers/{layer.key}/tree.tar"] = Member(
            kind="file", size=packed.size, sha256=packed.digest.removeprefix("sha256:")
        )
    manifest = await asyncio.to_thread(
        _manifest, layout, plan, images, layers, suite, folder, members
    )
    note(f"writing {path.name}")
    with export.new_file(path, doing) as new:
        async with _compressed(new, compress, doing) as out:
            await _write(out, manifest, suite, layers, contents, doing, note)
    return manifest, suite


def _manifest(
    layout: type[Layout],
    plan: Plan,
    built: Sequence[Built],
    layers: Sequence[Layer],
    suite: Suite,
    folder: str,
    members: Mapping[str, Member],
) -> Manifest:
    modules = {cls.__module__ for cls in layout.__mro__}
    for one in built:
        modules |= {type(role).__module__ for role in one.image.roles}
    found = of_files(suite.entries.values(), modules, suite.top)
    if found.strays:
        strays = ", ".join(f"{name} ({path})" for name, path in sorted(found.strays.items()))
        raise BundleError(
            f"layout {layout.__name__!r}: its tests import what is neither in {suite.root} nor "
            f"installed: {strays}; try: --suite with a folder that has all of it"
        )
    told = {
        one.image.key: {
            "key": one.image.key,
            "name": one.image.name,
            "tag": one.image.tag,
            "layers": [layer.key for layer in one.layers],
            "config": asdict(one.config),
        }
        for one in built
    }
    return Manifest(
        layout=layout.__name__,
        folder=folder,
        architecture=os.uname().machine,
        targets=tuple(sorted({machine.target for machine in plan.machines.values()})),
        requires=found.distributions,
        images=tuple(told[key] for key in sorted(told)),
        layers=tuple(layer.key for layer in layers),
        sizes={layer.key: layer.meta.size for layer in layers},
        members=members,
    )


def _layers(images: Sequence[Built]) -> list[Layer]:
    """The layers of all images, each once and after those below it."""
    found: dict[str, Layer] = {}
    for one in images:
        for layer in one.layers:
            found.setdefault(layer.key, layer)
    return list(found.values())


def _of_bytes(data: bytes) -> Member:
    return Member(kind="file", size=len(data), sha256=hashlib.sha256(data).hexdigest())


def _member(path: Path, top: Path, doing: str) -> Member:
    info = path.lstat()
    if stat.S_ISDIR(info.st_mode):
        return Member(kind="folder", mode=0o755)
    if stat.S_ISLNK(info.st_mode):
        target = str(path.readlink())
        if not leads_inside(path.relative_to(top).as_posix(), target):
            raise BundleError(
                f"{doing}: the symbolic link {path} leads to {target}, which is not in it; "
                "try: a copy of what it leads to, or --suite with a folder that has both"
            )
        return Member(kind="link", target=target)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    mode = 0o755 if info.st_mode & stat.S_IXUSR else 0o644
    return Member(kind="file", mode=mode, size=info.st_size, sha256=found)


def leads_inside(name: str, target: str) -> bool:
    """Whether a symbolic link leads to what is in the same folder of tests.

    Steps up are at its beginning only: after another link they would lead who knows where.
    """
    parts = PurePosixPath(target).parts
    ups = next((number for number, part in enumerate(parts) if part != ".."), len(parts))
    depth = len(PurePosixPath(name).parts) - 1
    return not target.startswith("/") and ups <= depth and ".." not in parts[ups:]


async def _pack(layer: Layer, out: int, doing: str) -> export.Packed:
    return await export.pack(
        [layer.tree],
        out,
        doing=f"{doing}: layer {layer.meta.title!r}",
        places=[layer.path.parent],
        is_layer=True,
    )


@contextlib.asynccontextmanager
async def _compressed(path: Path, command: Sequence[str] | None, doing: str) -> AsyncIterator[int]:
    """A descriptor whose bytes end in a file."""
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    if command is None:
        try:
            yield file
        finally:
            os.close(file)
        return
    process = subprocess.Popen(  # noqa: ASYNC220  whose input is a pipe that another may have
        ["setpriv", "--pdeathsig", "KILL", *command],
        stdin=subprocess.PIPE,
        stdout=file,
        stderr=subprocess.PIPE,
    )
    os.close(file)
    assert process.stdin is not None
    assert process.stderr is not None
    try:
        with contextlib.suppress(BrokenPipeError):  # it tells itself why it ended
            yield process.stdin.fileno()
        process.stdin.close()
        said = await asyncio.to_thread(process.stderr.read)
        if await asyncio.to_thread(process.wait):
            text = said.decode(errors="replace").strip()
            raise BundleError(
                f"{doing}: {command[0]} ended with status {process.returncode}: {text}"
            )
    finally:
        if process.poll() is None:
            process.kill()
        with contextlib.suppress(OSError):
            process.stdin.close()
        process.stderr.close()
        process.wait()


async def _write(
    out: int,
    manifest: Manifest,
    suite: Suite,
    layers: Sequence[Layer],
    contents: Mapping[str, bytes],
    doing: str,
    note: Note,
) -> None:
    head = manifest.text.encode()
    await asyncio.to_thread(_put, out, MANIFEST, _of_bytes(head), io.BytesIO(head))
    by_key = {layer.key: layer for layer in layers}
    written = 0
    for name, member in manifest.members.items():
        if name in contents:
            await asyncio.to_thread(_put, out, name, member, io.BytesIO(contents[name]))
        elif name.startswith("layers/"):
            layer = by_key[name.split("/")[1]]
            written += 1
            note(f"writing layer {written} of {len(layers)}: {layer.meta.title}")
            await asyncio.to_thread(_write_all, out, _header(name, member))
            packed = await _pack(layer, out, doing)
            if packed.size != member.size or packed.digest != f"sha256:{member.sha256}":
                raise BundleError(f"{doing}: layer {layer.meta.title!r} changed meanwhile")
            await asyncio.to_thread(_write_all, out, bytes(-member.size % _BLOCK))
        elif member.kind != "file":
            await asyncio.to_thread(_write_all, out, _header(name, member))
        else:
            place = suite.entries[name.removeprefix("suite/")]
            with place.open("rb") as file:
                await asyncio.to_thread(_put, out, name, member, file)
    await asyncio.to_thread(_write_all, out, bytes(2 * _BLOCK))


def _header(name: str, member: Member) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = member.size, member.mode, 0
    if member.kind == "folder":
        info.type = tarfile.DIRTYPE
    elif member.kind == "link":
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, member.target, 0o777
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _put(out: int, name: str, member: Member, file: Any) -> None:
    _write_all(out, _header(name, member))
    seen, size = hashlib.sha256(), 0
    while data := file.read(min(_CHUNK, member.size - size)):
        seen.update(data)
        size += len(data)
        _write_all(out, data)
    if seen.hexdigest() != member.sha256:
        raise BundleError(f"{name} changed while it was read; try: again")
    _write_all(out, bytes(-size % _BLOCK))


def _write_all(out: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(out, view) :]
