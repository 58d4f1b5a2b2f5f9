"""Unpacking a bundle that was checked: its tests into a folder, its layers into a store."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from pytest_carthage.errors import BundleError
from pytest_carthage.fabric.host import privilege
from pytest_carthage.fabric.host.execution import tied
from pytest_carthage.fabric.host.namespaces import as_root_of_files
from pytest_carthage.images.bundles.manifest import Manifest, Member
from pytest_carthage.images.bundles.reading import opened
from pytest_carthage.images.exports.failures import refusal
from pytest_carthage.images.exports.places import new_folder
from pytest_carthage.store import census, disk
from pytest_carthage.store.holding import Holding
from pytest_carthage.store.layer import LayerMeta
from pytest_carthage.store.root import Store

__all__ = ["Unpacking", "suite_folder", "unpack_suite"]

_ROOT = Path(__file__).resolve().parents[3]
_RESTORE = (
    f"import sys; sys.path.insert(0, {str(_ROOT)!r});"
    "from pytest_carthage.images.bundles.restore import main; main()"
)
_CHUNK = 1 << 20


@contextlib.contextmanager
def suite_folder(path: Path, folder: Path) -> Iterator[Path]:
    """A folder that gets its name when all is done.

    :param path: the bundle.
    :raises BundleError: it cannot be made or written to.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(folder, 0o755) as new:
            yield new
    except OSError as error:
        raise BundleError(f"bundle {path}: {error.strerror}: {error.filename or folder}") from error


def unpack_suite(path: Path, manifest: Manifest, folder: Path) -> None:
    """Unpack the tests into an empty folder."""
    with opened(path) as tar:
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


@dataclass(slots=True, kw_only=True)
class Unpacking:
    """Layers of one bundle on their way into a store."""

    path: Path
    manifest: Manifest
    metas: Mapping[str, LayerMeta]
    store: Store
    #: what is remembered of where its layers come from
    origin: str
    #: is told what happens, in a few words
    note: Callable[[str], None]
    #: keeps others from removing what was there before, and what is made
    holding: Holding
    #: keys of layers that are new here, each after those that it stands on
    made: list[str] = field(default_factory=list)

    async def run(self, missing: set[str]) -> None:
        """Put layers that are missing into the store.

        :raises BundleError: one cannot be unpacked.
        :raises BuildError: there is no room for it.
        """
        with opened(self.path) as tar:
            while info := await asyncio.to_thread(tar.next):
                kind, _, rest = info.name.partition("/")
                key = rest.partition("/")[0]
                if kind != "layers" or not rest.endswith("/tree.tar"):
                    continue
                meta = self.metas[key]
                if key not in missing:
                    self.store.outcomes.adopt(meta.declared, meta.inputs, key)
                    continue
                number = self.manifest.layers.index(key) + 1
                self.note(f"layer {number} of {len(self.metas)}: {meta.title}")
                file = tar.extractfile(info)
                assert file is not None
                await self._unpack(file, meta, self.manifest.members[info.name])

    async def undo(self) -> None:
        """Remove what was made, as far as nobody uses it."""
        self.holding.release()
        for key in reversed(self.made):
            await asyncio.to_thread(self.store.remove, key)

    async def _unpack(self, file: IO[bytes], meta: LayerMeta, member: Member) -> None:
        """Make a layer, which is held from before others can see it."""
        # what a builder of this layer claims, and where it works
        name = meta.key if meta.parent is None else meta.declared
        async with self.store.claims.claimed(name, self.note) as claim:
            claim.tell(f"unbundling {meta.title}")
            if not await self.holding.added(self.store.layers.path(meta.key)):
                await self._make(name, file, meta, member)
            self.store.outcomes.adopt(meta.declared, meta.inputs, meta.key)

    async def _make(self, name: str, file: IO[bytes], meta: LayerMeta, member: Member) -> None:
        work = self.store.work(name)
        try:
            await asyncio.to_thread(disk.delete, work)
            (work / "tree").mkdir(parents=True)
            doing = f"bundle {self.path}: layer {meta.title!r}"
            await _restore(file, member, work / "tree", doing)
            await self.holding.added(work)
            await asyncio.to_thread(self._commit, work, meta)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(disk.delete, work))
            raise
        self.made.append(meta.key)

    def _commit(self, work: Path, meta: LayerMeta) -> None:
        found = census.count(work / "tree")
        if reason := self.store.layers.damage(meta.key):
            aside = self.store.set_aside(meta.key)
            self.note(f"layer {meta.title!r} was damaged ({reason}), and is set aside as {aside}")
        meta = replace(
            meta,
            size=found.size,
            census=found.digest,
            entries=found.entries,
            origin=self.origin,
        )
        self.store.layers.commit(work, meta)


async def _restore(file: IO[bytes], member: Member, tree: Path, doing: str) -> None:
    """Write a layer's tar back as files, by a program of its own."""
    prefix = "trusted" if privilege.is_privileged() else "user"
    argv = [sys.executable, "-I", "-S", "-c", _RESTORE, str(tree), prefix]
    process = await asyncio.create_subprocess_exec(
        *tied(as_root_of_files(argv)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stderr is not None
    digest = hashlib.sha256()
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while data := await asyncio.to_thread(file.read, _CHUNK):
                digest.update(data)
                process.stdin.write(data)
                await process.stdin.drain()
            process.stdin.close()
        said = (await process.stderr.read()).decode(errors="replace").strip()
        status = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await asyncio.shield(process.wait())
    if status:
        last = said.splitlines()[-1] if said else f"status {status}"
        if "No space left" in said:
            raise refusal(doing, OSError(28, os.strerror(28)), tree)
        raise BundleError(f"{doing} cannot be unpacked: {last}")
    if digest.hexdigest() != member.sha256:
        raise BundleError(f"{doing} changed while it was unpacked; try: again")
