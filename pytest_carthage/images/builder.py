"""Building images: each layer once for its content key, whoever asks for it at the same time."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.access.inputs import Inputs
from pytest_carthage.errors import BuildError, CarthageError, HostError
from pytest_carthage.fabric import privilege
from pytest_carthage.images import recipe
from pytest_carthage.images.policy import Policy
from pytest_carthage.images.store import Built, Layer, LayerMeta, Lock, Store, disk_usage
from pytest_carthage.images.workshop import NeedsPython, opened
from pytest_carthage.model.image import Image, ImageConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_carthage.images.workshop import Workshop
    from pytest_carthage.model.task import Step
    from pytest_carthage.portal import Portal

    #: is told who (an image) does what, in a few words
    Note = Callable[[str, str], None]

__all__ = ["ensure"]

#: bytes of an image's name where it is part of a path
_LONGEST_NAME = 100
_FORBID_SERVICES = "#!/bin/sh\n# nothing is started in an image that is not booted\nexit 101\n"


async def ensure(
    image: Image,
    *,
    portal: Portal,
    note: Note,
    policy: Policy | None = None,
    store: Store | None = None,
) -> Built:
    """Find an image, or build what is missing of it; on ``portal``'s event loop.

    :raises BuildError: with the layer, its task, the command and its last lines.
    :raises HostError: this host lacks what builds such images.
    """
    store = store or Store()
    store.prepare()
    policy = policy or Policy()
    if policy.lock is not None:
        policy.lock.refuse_image(image)
    work = _Work(image, store, portal, note, policy)
    try:
        layers = [await work.base()]
        work.compare(layers[0].meta, layers[0].tree, ())
        for number in range(len(image.steps)):
            layer = await work.step(number, layers)
            work.compare(layer.meta, layer.tree, layers)
            layers.append(layer)
        store.hold(layers[-1].key)
    except OSError as error:
        raise BuildError(f"image {image.name!r}: {error}{_advice(error, store)}") from error
    finally:
        work.let_go()
    config = image.config.over(_config(layers[0].meta.config))
    built = Built(image=image, layers=tuple(layers), config=config, store=store)
    store.record(built)
    if image.tag is not None:
        from pytest_carthage.images import oci

        await oci.tag(built, image.tag, note=lambda text: note(image.name, text))
    return built


class _Work:
    """One image that is being looked for, layer by layer."""

    def __init__(
        self, image: Image, store: Store, portal: Portal, note: Note, policy: Policy
    ) -> None:
        self.image = image
        self.store = store
        self.portal = portal
        self.note = note
        self.policy = policy
        #: descriptors that hold the layers that were found or made so far
        self._held: list[int] = []

    # layers in use

    def _hold(self, layer: Layer) -> bool:
        """Keep others from removing a layer meanwhile; False: somebody just did."""
        fd = self.store.take(layer.key)
        if fd is not None:
            self._held.append(fd)
        return fd is not None

    def let_go(self) -> None:
        """Let go of the layers."""
        while self._held:
            os.close(self._held.pop())

    def _commit(self, work: Path, meta: LayerMeta) -> Layer:
        """Make a layer of a folder, which is held before others can see it."""
        fd = self.store.guard(work)
        if fd is not None:
            self._held.append(fd)
        layer = self.store.commit(work, meta)
        if not self._hold(layer):
            raise BuildError(
                f"image {self.image.name!r}: layer {layer.meta.title!r} was removed as soon as it "
                "was there; try: again"
            )
        return layer

    def compare(
        self, meta: LayerMeta, tree: Path, below: Sequence[Layer], *, is_new: bool = False
    ) -> None:
        """Compare a layer with what was locked.

        :raises LockError: it differs.
        """
        if self.policy.lock is None:
            return
        known = (meta, *(layer.meta for layer in reversed(below)))
        packages = next((one.packages for one in known if one.packages is not None), {})
        self.policy.lock.check_layer(self.image, len(below), meta, tree, packages, is_new=is_new)

    # bases

    async def base(self) -> Layer:
        """The base layer."""
        inputs = await recipe.base_inputs(self.image, self.store, offline=self.policy.offline)
        key = recipe.base_key(self.image, inputs)
        layer = self.store.layer(key)
        if layer is not None and self._hold(layer):
            return layer
        async with self.store.locked(key, self._waiting) as lock:
            layer = self.store.layer(key)
            if layer is None or not self._hold(layer):
                layer = await self._make_base(key, inputs, lock)
        return layer

    async def _make_base(self, key: str, inputs: Mapping[str, str], lock: Lock) -> Layer:
        from pytest_carthage.images.bases import BaseTools, make_base

        work = self._fresh(key)
        begin = time.monotonic()
        tools = BaseTools(
            note=lambda text: self._tell(lock, text),
            offline=self.policy.offline,
            privileged=privilege.is_privileged(),
            cache=self.store.folder("apt"),
        )
        try:
            made = await make_base(self.image, work / "tree", tools)
            meta = LayerMeta(
                key=key,
                parent=None,
                kind="base",
                title=f"base {self.image.origin}",
                command=self.image.origin,
                inputs=inputs,
                declared=self.image.base_key,
                made_at=time.time(),
                seconds=time.monotonic() - begin,
                size=await asyncio.to_thread(disk_usage, work / "tree"),
                packages=await asyncio.to_thread(_packages, work / "tree"),
                config=made.config,
                digest=made.digest,
            )
            self.compare(meta, work / "tree", (), is_new=True)
            await asyncio.to_thread(self._leave_only_tree, work)
            layer = self._commit(work, meta)
        except BaseException:
            await asyncio.to_thread(self.store.delete, work)
            raise
        self.store.add_result(meta.declared, inputs, key)
        return layer

    # steps

    async def step(self, number: int, below: Sequence[Layer]) -> Layer:
        """The layer of a step, on the layers below it."""
        step = self.image.steps[number]
        declared = recipe.declared_key(step, below[-1].key)
        layer, _ = await asyncio.to_thread(recipe.find_step, self.store, step, declared)
        if layer is not None and self._hold(layer):
            return layer
        async with self.store.locked(declared, self._waiting) as lock:
            layer, _ = await asyncio.to_thread(recipe.find_step, self.store, step, declared)
            if layer is None or not self._hold(layer):
                layer = await self._make_step(number, step, declared, below, lock)
        return layer

    async def _make_step(
        self, number: int, step: Step, declared: str, below: Sequence[Layer], lock: Lock
    ) -> Layer:
        who = f"image {self.image.name!r}, layer {number + 1} of {len(self.image.steps)}"
        self._tell(lock, f"{step.title} ({number + 1} of {len(self.image.steps)})")
        if self.policy.offline and step.task is not None and step.task.network:
            raise BuildError(
                f"{who}: task {step.title!r} ({step.place}) wants the network, and this run is "
                "offline; try: build it once with the network, or bring it by a bundle"
            )
        begin = time.monotonic()
        try:
            inputs = await self._do(step, declared, below, lock, python=False, who=who)
        except NeedsPython:
            inputs = await self._do(step, declared, below, lock, python=True, who=who)
        work = self._work(declared)
        try:
            packages = await asyncio.to_thread(_packages, work / "tree")
            key = recipe.step_key(declared, inputs)
            meta = LayerMeta(
                key=key,
                parent=below[-1].key,
                kind=step.kind,
                title=step.title,
                role=type(step.role).__name__ if step.role is not None else "",
                command=_command(step),
                inputs=inputs,
                declared=declared,
                made_at=time.time(),
                seconds=time.monotonic() - begin,
                size=await asyncio.to_thread(disk_usage, work / "tree"),
                packages=packages,
            )
            self.compare(meta, work / "tree", below, is_new=True)
            await asyncio.to_thread(self._leave_only_tree, work)
            layer = self._commit(work, meta)
        except BaseException:
            await asyncio.to_thread(self.store.delete, work)
            raise
        self.store.add_result(declared, inputs, key)
        return layer

    async def _do(
        self,
        step: Step,
        declared: str,
        below: Sequence[Layer],
        lock: Lock,
        *,
        python: bool,
        who: str,
    ) -> Mapping[str, str]:
        """Do a step in a workshop; returns what it has read."""
        work = self._fresh(declared)
        lower = [layer.tree for layer in reversed(below)]
        if python:
            lower.append(await self._python(below))
        lower.append(self._tools())
        inputs = Inputs(step.anchor)
        try:
            async with opened(
                lower,
                work,
                name=_machine_name(self.image.name),
                who=who,
                portal=self.portal,
                network=step.task is not None and step.task.network,
                env=dict(below[0].meta.config.get("env") or {}),
            ) as fs:
                fs.inputs, fs.python = inputs, python
                fs.offline, fs.mirror = self.policy.offline, self.image.mirror
                fs.note = lambda text: self._tell(lock, f"{step.title}: {text}")
                fs.groups = tuple(step.role.groups) if step.role is not None else ()
                await _perform(fs, step)
            await asyncio.to_thread(inputs.settle)
            return inputs.found
        except BaseException as error:
            while isinstance(error, ExceptionGroup):  # of a task group: the first is the cause
                error = error.exceptions[0]
            text = await asyncio.to_thread(self._put_away, work, step, below, error)
            if isinstance(error, (CarthageError, OSError)) and not isinstance(error, HostError):
                raise BuildError(_failure(who, step, error, text, self.store)) from error
            if isinstance(error, Exception) and not isinstance(error, HostError):
                what = f"{type(error).__name__}: {error}".rstrip(": ") + _line_of(error, step)
                raise BuildError(_failure(who, step, what, text, self.store)) from error
            raise

    def _put_away(
        self, work: Path, step: Step, below: Sequence[Layer], error: BaseException
    ) -> str:
        """Delete what a failed step has left, or keep it for a look; returns what to tell."""
        if not self.policy.keep_broken or not isinstance(error, Exception):
            self.store.delete(work)
            return ""
        self._leave_only_tree(work)
        name = _machine_name(self.image.name)
        place = self.store.folder("broken") / name
        self.store.delete(place)
        told = {
            "image": self.image.name,
            "title": step.title,
            "layers": [layer.key for layer in below],
            "error": str(error),
            "at": time.time(),
        }
        (work / "broken.json").write_text(json.dumps(told))
        work.rename(place)
        return f"\nkept for a look: pytest-carthage images shell {name}"

    async def _python(self, below: Sequence[Layer]) -> Path:
        """The tree of a system with a Python that goes beneath an image without one."""
        text = ""
        for layer in reversed(below):
            path = layer.tree / "usr/lib/os-release"
            if path.exists():
                text = path.read_text()
                break
        told = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        suite = told.get("VERSION_CODENAME", "").strip('"')
        if told.get("ID", "").strip('"') != "debian" or not suite:
            raise BuildError(
                f"image {self.image.name!r}: it has no Python for Ansible's modules, and only a "
                'Debian can be lent one; try: a task before it with fs.install("python3")'
            )
        image = Image.debian(suite, packages=["python3", "python3-apt"], name="Python for Ansible")
        # it is in no image, and so in no lock
        policy = replace(self.policy, lock=None)
        try:
            built = await ensure(
                image, portal=self.portal, note=self.note, policy=policy, store=self.store
            )
        except BuildError as error:
            raise BuildError(
                f"image {self.image.name!r}: it has no Python for Ansible's modules, and none can "
                f"be lent to it: {error}"
            ) from error
        return built.layers[0].tree

    def _tools(self) -> Path:
        """The lowest layer of a workshop: what is there meanwhile, and is in no image."""
        folder = self.store.root / "tools"
        policy = folder / "usr/sbin/policy-rc.d"
        if not policy.exists():
            policy.parent.mkdir(parents=True, exist_ok=True)
            (folder / "etc").mkdir(exist_ok=True)
            (folder / "etc/resolv.conf").write_text("")
            (folder / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
            new = policy.with_name(f"policy-rc.d.{os.getpid()}")
            new.write_text(_FORBID_SERVICES)
            new.chmod(0o755)
            new.rename(policy)
        return folder

    # folders to work in

    def _work(self, key: str) -> Path:
        return self.store.folder("work") / key

    def _fresh(self, key: str) -> Path:
        """An empty folder to work in; what a killed build has left there is deleted."""
        work = self._work(key)
        self.store.delete(work)
        work.mkdir(mode=0o755)
        (work / "tree").mkdir(mode=0o755)
        (work / "tree").chmod(0o755)
        (work / "logs").mkdir()
        return work

    def _leave_only_tree(self, work: Path) -> None:
        for entry in work.iterdir():
            if entry.name == "tree":
                continue
            if entry.is_dir():
                self.store.delete(entry)
            else:
                entry.unlink(missing_ok=True)

    # telling

    def _tell(self, lock: Lock, text: str) -> None:
        lock.tell(text, self.image.name)
        self.note(self.image.name, text)

    def _waiting(self, text: str) -> None:
        self.note(self.image.name, text)


async def _perform(fs: Workshop, step: Step) -> None:
    if step.task is not None:
        await fs.perform(step.task, step.role)
    elif step.file is not None:
        fs.anchor = step.anchor
        await fs.put(step.file.source, step.file.target, mode=step.file.mode, user=step.file.user)
    else:
        await fs.install(*step.packages)


def _failure(who: str, step: Step, error: object, kept: str, store: Store) -> str:
    role = f" of role {type(step.role).__name__}" if step.role is not None else ""
    said = str(error).replace(f"{who}: ", "", 1)
    text = f"{who}: task {step.title!r}{role} ({step.place}) failed: {said}"
    return text + _advice(error, store) + kept


def _line_of(error: BaseException, step: Step) -> str:
    """Where in the author's files an exception came from."""
    line, trace = "", error.__traceback__
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if file.parent == step.anchor:
            line = f" (at {file.name}:{trace.tb_lineno})"
        trace = trace.tb_next
    return line


def _advice(error: object, store: Store) -> str:
    """What to do about a full disk."""
    number = error.errno if isinstance(error, OSError) else None
    if number != errno.ENOSPC and os.strerror(errno.ENOSPC).lower() not in str(error).lower():
        return ""
    free_mib = shutil.disk_usage(store.root).free >> 20
    return (
        f"\n{store.root} has {free_mib} MiB free; try: pytest-carthage images gc, or set "
        "CARTHAGE_IMAGES to a folder on another disk"
    )


def _config(told: Mapping[str, Any]) -> ImageConfig:
    """What a base says beside its files."""
    command = told.get("command")
    return ImageConfig(
        command=None if not command else tuple(command),
        env=tuple((told.get("env") or {}).items()),
        labels=tuple((told.get("labels") or {}).items()),
        user=told.get("user") or "",
        workdir=told.get("workdir") or "",
    )


def _packages(tree: Path) -> dict[str, str] | None:
    """Name to version of the packages in a layer; None: it says nothing of packages."""
    try:
        status = (tree / "var/lib/dpkg/status").read_bytes()
    except OSError:
        return None
    from pytest_carthage.images.apt import installed

    return installed(status)


def _command(step: Step) -> str:
    role = f"{type(step.role).__name__}: " if step.role is not None else ""
    return f"{role}{step.title}"


def _machine_name(name: str) -> str:
    """What an image is called among machines, as in Ansible's inventory."""
    made = "".join(one if one.isalnum() else "-" for one in name).strip("-")
    if len(made.encode()) > _LONGEST_NAME:  # it is a folder's name, too
        told = hashlib.sha256(name.encode()).hexdigest()[:8]
        made = f"{made.encode()[: _LONGEST_NAME - 9].decode(errors='ignore')}-{told}"
    return made or "image"
