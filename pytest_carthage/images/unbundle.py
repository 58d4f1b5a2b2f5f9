"""Taking a bundle apart: all of it is checked before anything of it is kept."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from pytest_carthage.errors import BundleError
from pytest_carthage.fabric import privilege
from pytest_carthage.images import export
from pytest_carthage.images.bundle import (
    FORMAT,
    MANIFEST,
    VERSION,
    Manifest,
    Member,
    compressor,
    leads_inside,
)
from pytest_carthage.images.requirements import Requirement
from pytest_carthage.images.store import ImageRecord, LayerMeta, Store, write_atomically

if TYPE_CHECKING:
    Note = Callable[[str], None]

__all__ = ["Unbundled", "unbundle"]

_RESTORE = Path(__file__).with_name("restore.py")
_CHUNK = 1 << 20
_LARGEST_MANIFEST = 64 << 20
_KEY = re.compile(r"[0-9a-f]{32}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unbundled:
    """What a bundle has brought."""

    manifest: Manifest
    #: where the tests are, to start pytest in
    folder: Path
    #: layers that were new here
    new: int


async def unbundle(
    path: Path, folder: Path | None = None, *, store: Store | None = None, note: Note
) -> Unbundled:
    """Check a bundle; put its layers into the store and its tests into a new folder.

    :param folder: must be empty or not exist; by default the layout's name, in the working folder.
    :raises BundleError: it is damaged or no bundle, there is no room, the folder has something.
    """
    store = store or Store()
    store.prepare()
    path = export.absolute(path)
    manifest = await asyncio.to_thread(_read_manifest, path)
    folder = export.absolute(folder or Path(manifest.layout))
    _refuse_folder(path, folder)
    made: list[str] = []
    with contextlib.ExitStack() as held:
        missing = [key for key in manifest.layers if not _hold(store, key, held)]
        _refuse_small(path, manifest, missing, store, folder)
        note(f"checking {path.name}")
        metas = await asyncio.to_thread(_check, path, manifest)
        note(f"unpacking the tests into {folder}")
        try:
            with _new_folder(path, folder) as new:
                await asyncio.to_thread(_unpack_suite, path, manifest, new)
                await _unpack_layers(path, manifest, metas, set(missing), store, note, made, held)
        except BaseException:
            held.close()
            for key in reversed(made):
                await asyncio.to_thread(store.remove, key)
            raise
        for record in _records(manifest):
            told = json.dumps(asdict(record))
            write_atomically(store.folder("names") / f"{record.key}.json", told)
    return Unbundled(manifest=manifest, folder=folder / manifest.folder, new=len(made))


def _hold(store: Store, key: str, held: contextlib.ExitStack) -> bool:
    """Keep others from removing a layer; False: there is none."""
    fd = store.take(key)
    if fd is not None:
        held.callback(os.close, fd)
    return fd is not None


# reading


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    """The tar, read from its beginning."""
    undo = compressor(path, undo=True)
    with contextlib.ExitStack() as stack:
        file: IO[bytes] = stack.enter_context(path.open("rb"))
        if undo is not None:
            export.require(undo[0])
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *undo],
                stdin=file,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            assert process.stdout is not None
            file = stack.enter_context(process.stdout)
        try:
            yield stack.enter_context(
                tarfile.open(fileobj=file, mode="r|", errors="surrogateescape")
            )
        except tarfile.TarError as error:
            raise BundleError(f"bundle {path}: it is damaged, or no bundle: {error}") from error


def _read_manifest(path: Path) -> Manifest:
    if not path.is_file():
        raise BundleError(f"bundle {path}: there is no such file")
    foreign = f"bundle {path}: it is no bundle of pytest-carthage"
    with _opened(path) as tar:
        first = tar.next()
        if first is None or first.name != MANIFEST or not first.isfile():
            raise BundleError(f"{foreign}; try: a file that `pytest-carthage bundle` has written")
        if first.size > _LARGEST_MANIFEST:
            raise BundleError(f"{foreign}: its {MANIFEST} has {first.size} bytes")
        file = tar.extractfile(first)
        assert file is not None
        data = file.read()
    try:
        told = json.loads(data)
        if told["format"] != FORMAT:
            raise BundleError(foreign)
        if told["version"] != VERSION:
            raise BundleError(
                f"bundle {path}: its version is {told['version']!r}, and not {VERSION}; "
                "try: the pytest-carthage that has written it"
            )
        manifest = _manifest(told)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise BundleError(f"bundle {path}: its {MANIFEST} is damaged ({what})") from error
    here = os.uname().machine
    if manifest.architecture != here:
        raise BundleError(
            f"bundle {path}: its images are for {manifest.architecture}, and this host is {here}"
        )
    return manifest


def _manifest(told: Mapping[str, Any]) -> Manifest:
    members = {_inside(name): _member(name, one) for name, one in told["members"].items()}
    for name in members:
        for parent in PurePosixPath(name).parents:
            above = members.get(str(parent))
            if above is not None and above.kind != "folder":
                raise ValueError(f"{name!r} is below {str(parent)!r}, which is a {above.kind}")
    layers = tuple(_key(one) for one in told["layers"])
    images = tuple(
        {
            "key": _key(one["key"]),
            "name": str(one["name"]),
            "tag": one["tag"],
            "layers": [_key(layer) for layer in one["layers"]],
            "config": dict(one["config"]),
        }
        for one in told["images"]
    )
    for key in layers:
        for name in (f"layers/{key}/layer.json", f"layers/{key}/tree.tar"):
            if name not in members:
                raise ValueError(f"{name} is not listed")
    return Manifest(
        layout=_word(told["layout"]),
        folder=_inside(told["folder"]),
        architecture=str(told["architecture"]),
        targets=tuple(str(one) for one in told["targets"]),
        requires=tuple(
            Requirement(name=str(one["name"]), version=str(one["version"]))
            for one in told["requires"]
        ),
        images=images,
        layers=layers,
        sizes={_key(key): int(size) for key, size in told["sizes"].items()},
        members=members,
    )


def _key(value: object) -> str:
    if not isinstance(value, str) or _KEY.fullmatch(value) is None:
        raise ValueError(f"{value!r} is no key")
    return value


def _word(value: object) -> str:
    if not isinstance(value, str) or not value.isidentifier():
        raise ValueError(f"{value!r} is no name of a layout")
    return value


def _inside(name: str) -> str:
    """A name that leads nowhere else."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise ValueError(f"{name!r} leads outside")
    return name


def _member(name: str, told: Mapping[str, Any]) -> Member:
    member = Member(
        kind=str(told["kind"]),
        mode=int(told["mode"]) & 0o755,
        size=int(told["size"]),
        sha256=str(told["sha256"]),
        target=str(told["target"]),
    )
    top = PurePosixPath(name).parts[:1]
    if top not in (("suite",), ("layers",)) or member.kind not in ("file", "folder", "link"):
        raise ValueError(f"{name!r} is nothing that a bundle has")
    if member.kind == "link" and not leads_inside(name.partition("/")[2], member.target):
        raise ValueError(f"{name!r} leads outside, to {member.target!r}")
    return member


# refusing


def _refuse_folder(path: Path, folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        raise BundleError(
            f"bundle {path}: the folder {folder} has something already; "
            f"try: pytest-carthage unbundle {path.name} FOLDER, with one that is new"
        )


def _refuse_small(
    path: Path, manifest: Manifest, missing: list[str], store: Store, folder: Path
) -> None:
    there = next(one for one in folder.parents if one.exists())
    needs = [
        (store.root, sum(manifest.sizes.get(key, 0) for key in missing), "its layers"),
        (
            there,
            sum(one.size for name, one in manifest.members.items() if name.startswith("suite/")),
            "its tests",
        ),
    ]
    for place, size, what in needs:
        free = shutil.disk_usage(place).free
        if size > free:
            raise BundleError(
                f"bundle {path}: {what} need {size >> 20} MiB, and {place} has {free >> 20} MiB "
                "free; try: pytest-carthage images gc, or CARTHAGE_IMAGES on another disk"
            )


def _check(path: Path, manifest: Manifest) -> dict[str, LayerMeta]:
    """Read all of it, and compare with what it is to be; returns what is told of the layers."""
    metas: dict[str, LayerMeta] = {}
    damaged = f"bundle {path}: it is damaged"
    again = "try: to copy it once more"
    wanted = iter(manifest.members.items())
    with _opened(path) as tar:
        for number, info in enumerate(tar):
            if number == 0:  # the manifest itself
                continue
            name, member = next(wanted, ("", None))
            if member is None or info.name.rstrip("/") != name or _kind(info) != member.kind:
                raise BundleError(f"{damaged}: {info.name!r} does not belong to it; {again}")
            if member.kind == "link" and info.linkname != member.target:
                raise BundleError(f"{damaged}: {name} leads to {info.linkname!r}; {again}")
            if member.kind != "file":
                continue
            file = tar.extractfile(info)
            assert file is not None
            is_meta = name.startswith("layers/") and name.endswith("/layer.json")
            seen, kept = hashlib.sha256(), b""
            while data := file.read(_CHUNK):
                seen.update(data)
                kept += data if is_meta else b""
            if seen.hexdigest() != member.sha256 or info.size != member.size:
                raise BundleError(f"{damaged}: {name} is not what it was; {again}")
            if is_meta:
                meta = _meta(name, kept, damaged)
                metas[meta.key] = meta
    left = next(wanted, None)
    if left is not None:
        raise BundleError(f"{damaged}: it ends before {left[0]}; {again}")
    for meta in metas.values():
        if meta.parent is not None and meta.parent not in metas:
            raise BundleError(f"{damaged}: the layer below {meta.key} is not in it")
    return metas


def _kind(info: tarfile.TarInfo) -> str:
    if info.isdir():
        return "folder"
    if info.issym():
        return "link"
    return "file" if info.isfile() else "other"


def _meta(name: str, data: bytes, damaged: str) -> LayerMeta:
    try:
        told = json.loads(data)
        known = {one: told[one] for one in LayerMeta.__dataclass_fields__ if one in told}
        meta = LayerMeta(**known)
        if name.split("/")[1] != _key(meta.key):
            raise ValueError(f"its key is {meta.key}")
        for key in (meta.declared, meta.parent or meta.key):
            _key(key)
    except (ValueError, TypeError) as error:
        raise BundleError(f"{damaged}: {name}: {error}") from error
    return meta


# unpacking


@contextlib.contextmanager
def _new_folder(path: Path, folder: Path) -> Iterator[Path]:
    """A folder that gets its name when all is done."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise BundleError(f"bundle {path}: {folder.parent}: {error.strerror}") from error
    try:
        yield new
        new.chmod(0o755)
        # in place of an empty one
        new.rename(folder)
    except OSError as error:
        raise BundleError(f"bundle {path}: {error.strerror}: {error.filename or folder}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _unpack_suite(path: Path, manifest: Manifest, folder: Path) -> None:
    with _opened(path) as tar:
        for info in tar:
            top, _, name = info.name.rstrip("/").partition("/")
            member = manifest.members.get(info.name.rstrip("/"))
            if top != "suite" or member is None or not name:
                continue
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if member.kind == "folder":
                target.mkdir(exist_ok=True)
            elif member.kind == "link":
                target.symlink_to(member.target)
            else:
                file = tar.extractfile(info)
                assert file is not None
                with target.open("xb") as out:
                    shutil.copyfileobj(file, out, _CHUNK)
                target.chmod(member.mode)


async def _unpack_layers(
    path: Path,
    manifest: Manifest,
    metas: Mapping[str, LayerMeta],
    missing: set[str],
    store: Store,
    note: Note,
    made: list[str],
    held: contextlib.ExitStack,
) -> None:
    """Put layers into the store; the keys of those that are new are added to ``made``."""
    with _opened(path) as tar:
        while info := await asyncio.to_thread(tar.next):
            kind, _, rest = info.name.partition("/")
            key = rest.partition("/")[0]
            if kind != "layers" or not rest.endswith("/tree.tar"):
                continue
            meta = metas[key]
            if key in missing:
                note(f"layer {manifest.layers.index(key) + 1} of {len(metas)}: {meta.title}")
                member = manifest.members[info.name]
                file = tar.extractfile(info)
                assert file is not None
                if await _unpack_layer(path, file, meta, member, store, note, held):
                    made.append(key)
            else:
                store.add_result(meta.declared, meta.inputs, key)


async def _unpack_layer(
    path: Path,
    file: IO[bytes],
    meta: LayerMeta,
    member: Member,
    store: Store,
    note: Note,
    held: contextlib.ExitStack,
) -> bool:
    """Make a layer, which is held from before others can see it; False: somebody else has."""
    # what a builder of this layer locks, and where it works
    name = meta.key if meta.parent is None else meta.declared
    async with store.locked(name, note) as lock:
        lock.tell(f"unbundling {meta.title}")
        is_new = not _hold(store, meta.key, held)
        if is_new:
            work = store.folder("work") / name
            try:
                await asyncio.to_thread(store.delete, work)
                (work / "tree").mkdir(parents=True)
                await _restore(path, file, member, work / "tree", meta)
                fd = store.guard(work)
                if fd is not None:
                    held.callback(os.close, fd)
                store.commit(work, meta)
            except BaseException:
                await asyncio.to_thread(store.delete, work)
                raise
        store.add_result(meta.declared, meta.inputs, meta.key)
    return is_new


async def _restore(
    path: Path, file: IO[bytes], member: Member, tree: Path, meta: LayerMeta
) -> None:
    prefix = "trusted" if privilege.is_privileged() else "user"
    argv = [sys.executable, "-I", "-S", str(_RESTORE), str(tree), prefix]
    process = await asyncio.create_subprocess_exec(
        "setpriv",
        "--pdeathsig",
        "KILL",
        *export.inside_user_namespace(argv),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stderr is not None
    seen = hashlib.sha256()
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while data := await asyncio.to_thread(file.read, _CHUNK):
                seen.update(data)
                process.stdin.write(data)
                await process.stdin.drain()
            process.stdin.close()
        said = (await process.stderr.read()).decode(errors="replace").strip()
        status = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await asyncio.shield(process.wait())
    doing = f"bundle {path}: layer {meta.title!r}"
    if status:
        last = said.splitlines()[-1] if said else f"status {status}"
        if "No space left" in said:
            raise export.failure(doing, OSError(28, os.strerror(28)), tree)
        raise BundleError(f"{doing} cannot be unpacked: {last}")
    if seen.hexdigest() != member.sha256:
        raise BundleError(f"{doing} changed while it was unpacked; try: again")


def _records(manifest: Manifest) -> Iterator[ImageRecord]:
    now = time.time()
    for one in manifest.images:
        yield ImageRecord(
            key=one["key"],
            name=one["name"],
            tag=one["tag"],
            layers=tuple(one["layers"]),
            built_at=now,
            used_at=now,
            config=one["config"],
        )
