"""Writing a bundle: a layout's images, its lock and its tests in one file.

The file is a tar: first ``carthage-bundle.json``, which says what else is in it, with hashes; then
the tests; then the layers of the images, each as the tar that an OCI image has of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from pytest_carthage.errors import BundleError
from pytest_carthage.images.bundles.compression import compressed, compressor
from pytest_carthage.images.bundles.manifest import MANIFEST, Manifest, Member, leads_inside
from pytest_carthage.images.bundles.requirements import of_files
from pytest_carthage.images.bundles.suite import Suite, gather
from pytest_carthage.images.exports.oci.blobs import digits, plain_tar, recorded
from pytest_carthage.images.exports.places import absolute, new_file
from pytest_carthage.images.exports.tars.headers import BLOCK, padding
from pytest_carthage.images.exports.tars.packing import Packed, pack
from pytest_carthage.images.exports.tars.sinks import write_all
from pytest_carthage.images.exports.tools import require
from pytest_carthage.images.locks.lock import NAME

if TYPE_CHECKING:
    from pytest_carthage.images.locks.lock import Lock
    from pytest_carthage.planning.declaration import Declaration
    from pytest_carthage.planning.plan import Plan
    from pytest_carthage.store.built import Built
    from pytest_carthage.store.layer import Layer

    Note = Callable[[str], None]

__all__ = ["write"]

_CHUNK = 1 << 20


async def write(
    path: Path,
    layout: type[Declaration],
    plan: Plan,
    lock: Lock,
    images: Mapping[str, Built],
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
    path = absolute(path)
    doing = f"bundle {path}"
    compress = compressor(path)
    if compress is not None:
        require(compress[0])
    hidden = path.with_name(f".{path.name}.new")
    suite = await asyncio.to_thread(gather, root, images.values(), without=[path, hidden])
    every = [*(images[name] for name in sorted(images)), *more]
    layers = _layers(every)
    folder = root.relative_to(suite.top).as_posix()
    locked = PurePosixPath("suite", folder, NAME).as_posix()
    #: members that are in no file
    contents = {locked: lock.text.encode()}
    members = await asyncio.to_thread(_suite_members, suite, doing)
    members = dict(sorted({**members, locked: _of_bytes(contents[locked])}.items()))
    for number, layer in enumerate(layers, 1):
        if recorded(layer, sparse=True) is None:
            note(f"reading layer {number} of {len(layers)}: {layer.meta.title}")
        data = json.dumps(asdict(layer.meta), indent=1, sort_keys=True).encode()
        name = f"layers/{layer.key}/layer.json"
        members[name], contents[name] = _of_bytes(data), data
        plain = await plain_tar(layer, f"{doing}: layer {layer.meta.title!r}", sparse=True)
        members[f"layers/{layer.key}/tree.tar"] = Member(
            kind="file", size=plain.size, sha256=digits(plain.digest)
        )
    manifest = await asyncio.to_thread(
        _manifest, layout, plan, every, layers, suite, folder, members
    )
    note(f"writing {path.name}")
    with new_file(path, doing) as new:
        async with compressed(new, compress, doing) as out:
            await _write(out, manifest, suite, layers, contents, doing, note)
    return manifest, suite


def _manifest(
    layout: type[Declaration],
    plan: Plan,
    images: Sequence[Built],
    layers: Sequence[Layer],
    suite: Suite,
    folder: str,
    members: Mapping[str, Member],
) -> Manifest:
    modules = {cls.__module__ for cls in layout.__mro__}
    for built in images:
        modules |= {type(role).__module__ for role in built.image.roles}
    requirements = of_files(suite.entries.values(), modules, suite.top)
    if requirements.strays:
        strays = ", ".join(f"{name} ({path})" for name, path in sorted(requirements.strays.items()))
        raise BundleError(
            f"layout {layout.__name__!r}: its tests import what is neither in {suite.root} nor "
            f"installed: {strays}; try: --suite with a folder that has all of it"
        )
    records = {
        built.image.key: {
            "key": built.image.key,
            "name": built.image.name,
            "tag": built.image.tag,
            "layers": [layer.key for layer in built.layers],
            "config": asdict(built.config),
        }
        for built in images
    }
    return Manifest(
        layout=layout.__name__,
        folder=folder,
        architecture=os.uname().machine,
        targets=tuple(sorted({machine.target for machine in plan.machines.values()})),
        requires=requirements.distributions,
        images=tuple(records[key] for key in sorted(records)),
        layers=tuple(layer.key for layer in layers),
        sizes={layer.key: layer.meta.size for layer in layers},
        members=members,
    )


def _layers(images: Sequence[Built]) -> list[Layer]:
    """The layers of all images, each once and after those below it."""
    layers: dict[str, Layer] = {}
    for built in images:
        for layer in built.layers:
            layers.setdefault(layer.key, layer)
    return list(layers.values())


def _suite_members(suite: Suite, doing: str) -> dict[str, Member]:
    return {
        f"suite/{name}": _member(path, suite.top, doing) for name, path in suite.entries.items()
    }


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
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    mode = 0o755 if info.st_mode & stat.S_IXUSR else 0o644
    return Member(kind="file", mode=mode, size=info.st_size, sha256=digest)


async def _pack(layer: Layer, out: int, doing: str) -> Packed:
    return await pack(
        [layer.tree],
        out,
        doing=f"{doing}: layer {layer.meta.title!r}",
        places=[layer.path.parent],
        is_layer=True,
        sparse=True,
    )


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
            await asyncio.to_thread(write_all, out, _header(name, member))
            packed = await _pack(layer, out, doing)
            if packed.size != member.size or packed.digest != f"sha256:{member.sha256}":
                raise BundleError(
                    f"{doing}: layer {layer.meta.title!r} is not what it was when it was first "
                    "read; try: pytest-carthage images rm, of the image that has it"
                )
            await asyncio.to_thread(write_all, out, padding(member.size))
        elif member.kind != "file":
            await asyncio.to_thread(write_all, out, _header(name, member))
        else:
            place = suite.entries[name.removeprefix("suite/")]
            await asyncio.to_thread(_put_file, out, name, member, place)
    await asyncio.to_thread(write_all, out, bytes(2 * BLOCK))


def _header(name: str, member: Member) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = member.size, member.mode, 0
    if member.kind == "folder":
        info.type = tarfile.DIRTYPE
    elif member.kind == "link":
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, member.target, 0o777
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _put_file(out: int, name: str, member: Member, path: Path) -> None:
    with path.open("rb") as file:
        _put(out, name, member, file)


def _put(out: int, name: str, member: Member, file: IO[bytes]) -> None:
    write_all(out, _header(name, member))
    digest, size = hashlib.sha256(), 0
    while data := file.read(min(_CHUNK, member.size - size)):
        digest.update(data)
        size += len(data)
        write_all(out, data)
    if digest.hexdigest() != member.sha256:
        raise BundleError(f"{name} changed while it was read; try: again")
    write_all(out, padding(size))
