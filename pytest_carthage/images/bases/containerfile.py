"""What ``podman build`` makes of a Containerfile.

It builds in a store of its own, with the host's images below: what a build that was killed leaves
there is removed by the next one, and the host's store never sees any of it.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.errors import BuildError
from pytest_carthage.fabric.host.claim import claimed
from pytest_carthage.fabric.host.execution import Ended, run
from pytest_carthage.fabric.host.namespaces import apart
from pytest_carthage.images.bases import oci
from pytest_carthage.images.bases.hashes import content_hash
from pytest_carthage.images.bases.values import BaseResult
from pytest_carthage.images.host_store import host_store
from pytest_carthage.model.keys.inputs import hash_of
from pytest_carthage.work import space

if TYPE_CHECKING:
    from pytest_carthage.images.bases.values import BaseTools
    from pytest_carthage.model.image import Image

__all__ = ["inputs", "make"]

_STEP = re.compile(r"(?:\[\d+/\d+\] )?STEP (?P<step>\d+/\d+): (?P<command>.*)")
_ID = re.compile(r"[0-9a-f]{64}")


async def inputs(image: Image) -> dict[str, str]:
    """The Containerfile, and the folder that it copies from."""
    assert image.path is not None
    assert image.context is not None
    subject = _who(image)
    hashes = {str(image.path): await asyncio.to_thread(content_hash, image.path, subject)}
    if image.context.is_dir():
        # whose the files are does not count: podman makes them root's
        hashes[str(image.context)] = await asyncio.to_thread(hash_of, image.context)
        return hashes
    raise BuildError(
        f"{subject}: its context {image.context} is no folder; try: context= with the folder "
        "that it copies from"
    )


async def make(image: Image, tree: Path, tools: BaseTools) -> BaseResult:
    """Build it, and unpack the result.

    :raises BuildError: a command of it failed, a base is missing.
    """
    assert image.path is not None
    subject = _who(image)
    await inputs(image)
    try:
        folder = tools.cache / "containerfiles"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BuildError(f"{subject}: {error}") from error
    waiting = "waiting for another build of a Containerfile"
    async with claimed(folder / "lock", waiting=lambda text: tools.note(waiting)):
        place = _Place(folder, tools)
        await place.tidy()
        identity = tree.with_name(f"{tree.name}.id")
        ended = await place.build(image, identity)
        if ended.status:
            raise BuildError(_failure(subject, ended, tree, offline=tools.offline))
        match = _ID.search(identity.read_text())
        identity.unlink()
        assert match is not None
        before = place.apart(False)
        return await oci.take(place.source(match[0]), subject, tree, tools, before=before)


class _Place:
    """A store of containers beside the host's own."""

    def __init__(self, folder: Path, tools: BaseTools) -> None:
        self.root = folder / "root"
        self.temporary = folder / "tmp"
        # in a file system that ends with each command; podman takes 50 characters at most
        self.run_root = Path("/dev/shm/carthage")
        self.tools = tools
        self.driver, self.below = host_store()

    def source(self, identity: str) -> str:
        """How skopeo(1) calls an image of this store."""
        option = "".join(f":{one}" for one in self._options)
        return f"containers-storage:[{self.driver}@{self.root}+{self.run_root}{option}]{identity}"

    @property
    def _options(self) -> list[str]:
        return [] if self.below is None else [f"{self.driver}.imagestore={self.below}"]

    @property
    def _podman(self) -> list[str]:
        return [
            "podman",
            "--root",
            str(self.root),
            "--runroot",
            str(self.run_root),
            f"--storage-driver={self.driver}",
            "--cgroup-manager=cgroupfs",
            f"--tmpdir={self.run_root}/libpod",
            *(f"--storage-opt={one}" for one in self._options),
        ]

    @property
    def _environment(self) -> Mapping[str, str]:
        return {"TMPDIR": str(self.temporary)}

    def apart(self, network: bool) -> list[str]:
        """Beginning of a command in namespaces; rootless, podman would leave a process there."""
        # where its locks are: those of another store of another user, otherwise
        own = 'mount -t tmpfs tmpfs /dev/shm; exec "$@"'
        privileged = self.tools.privileged
        return [*apart(privileged=privileged, network=network), "sh", "-ec", own, "sh"]

    async def build(self, image: Image, identity: Path) -> Ended:
        """Run podman-build(1)."""
        pull = "never" if self.tools.offline else "missing"

        def tell(line: str) -> None:
            if match := _STEP.match(line):
                self.tools.note(f"step {match['step']}: {match['command']}")

        return await run(
            [
                *self.apart(not self.tools.offline),
                *(*self._podman, "build", "--layers", f"--pull={pull}"),
                # what OCI's format has no place for is left out there: HEALTHCHECK
                *("--isolation=chroot", "--force-rm", "--network=host", "--format=docker"),
                *(f"--iidfile={identity}", "--file", str(image.path), "--", str(image.context)),
            ],
            tell=tell,
            env=self._environment,
        )

    async def tidy(self) -> None:
        """Remove what builds that were killed have left; nobody else has the lock."""
        # podman insists on the paths that it had at first
        for folder in (self.temporary, self.root / "libpod"):
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        self.temporary.mkdir()
        if not (self.root / f"{self.driver}-containers" / "containers.json").exists():
            return
        ended = await run(
            [
                *self.apart(False),
                *self._podman,
                "ps",
                "--all",
                "--external",
                "--quiet",
                "--no-trunc",
            ],
            keep_output=True,
            env=self._environment,
        )
        for name in ended.output.decode().split():
            await run(
                [*self.apart(False), *self._podman, "rm", "--force", "--", name],
                env=self._environment,
            )


def _failure(who: str, ended: Ended, tree: Path, *, offline: bool) -> str:
    said = f"{who}: podman build ended with status {ended.status}; the last lines:\n{ended.text}\n"
    if full := space.advice(ended.text, tree.parent):
        return said + full
    if offline and re.search(r"not known|no such image|unable to find|never|pull", ended.text):
        return f"{said}try: podman pull with a network, since nothing is fetched offline"
    return f"{said}try: podman build with that file, on its own"


def _who(image: Image) -> str:
    return f"image {image.name!r} ({image.path})"
