"""The layer of a step: what a task changes, or the packages that roles need, on what is below."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage import clock
from pytest_carthage.errors import BuildError, HostError
from pytest_carthage.images import recipe
from pytest_carthage.images.building import outside
from pytest_carthage.images.building.bench import emptied, leave_only_tree, packages_of, tools
from pytest_carthage.images.building.build import space_advice
from pytest_carthage.images.building.python import lender_for
from pytest_carthage.images.workshop import NeedsPython, opened
from pytest_carthage.model.keys.inputs import Inputs
from pytest_carthage.model.mistakes.culprit import described, passes_through
from pytest_carthage.store import census, disk
from pytest_carthage.store.layer import LayerMeta
from pytest_carthage.work.files.scope import Scope

if TYPE_CHECKING:
    from pytest_carthage.fabric.host.claim import Claim
    from pytest_carthage.images.building.build import Build
    from pytest_carthage.images.workshop import Workshop
    from pytest_carthage.model.image import Image
    from pytest_carthage.model.task import Step
    from pytest_carthage.store.built import Built
    from pytest_carthage.store.layer import Layer

    #: builds another image, which is in no lock
    Lend = Callable[[Image], Awaitable[Built]]

__all__ = ["step_layer"]

#: bytes of an image's name where it is part of a path
_LONGEST_NAME = 100


async def step_layer(build: Build, number: int, below: Sequence[Layer], lend: Lend) -> Layer:
    """Find the layer of a step on the layers below it, or make it.

    :param number: of the step, 0 for the first.
    :param lend: builds an image the Python of which is lent.
    :raises BuildError: with the task, the command and its last lines.
    :raises HostError: this host lacks what the task needs.
    """
    store, step = build.store, build.image.steps[number]
    declared = recipe.declared_key(step, below[-1].key)
    layer, _ = await asyncio.to_thread(recipe.find_step, store, step, declared)
    if layer is not None and await build.hold(layer):
        return layer
    async with store.claims.claimed(declared, build.waiting) as claim:
        layer, _ = await asyncio.to_thread(recipe.find_step, store, step, declared)
        if layer is None or not await build.hold(layer):
            making = _Making(
                build=build, number=number, declared=declared, below=below, claim=claim, lend=lend
            )
            layer = await making.run()
    return layer


@dataclass(frozen=True, slots=True, kw_only=True)
class _Making:
    """A step that is being done."""

    build: Build
    number: int
    #: key of what is declared of it
    declared: str
    below: Sequence[Layer]
    claim: Claim
    lend: Lend

    @property
    def step(self) -> Step:
        return self.build.image.steps[self.number]

    @property
    def position(self) -> str:
        return f"{self.number + 1} of {len(self.build.image.steps)}"

    @property
    def who(self) -> str:
        """How messages begin."""
        return f"image {self.build.image.name!r}, layer {self.position}"

    async def run(self) -> Layer:
        """Do it, and keep its layer."""
        build, step = self.build, self.step
        build.tell(self.claim, f"{step.title} ({self.position})")
        self._refuse_network_offline()
        begin = clock.monotonic_s()
        try:
            inputs = await self._do(python=False)
        except NeedsPython:
            inputs = await self._do(python=True)
        work = build.store.work(self.declared)
        key = recipe.step_key(self.declared, inputs)
        try:
            found = await asyncio.to_thread(census.count, work / "tree")
            meta = LayerMeta(
                key=key,
                parent=self.below[-1].key,
                kind=step.kind,
                title=step.title,
                role=type(step.role).__name__ if step.role is not None else "",
                command=_command(step),
                inputs=inputs,
                declared=self.declared,
                made_at=clock.unix_s(),
                seconds=clock.monotonic_s() - begin,
                size=found.size,
                census=found.digest,
                entries=found.entries,
                packages=await asyncio.to_thread(packages_of, work / "tree"),
            )
            await build.compare(meta, work / "tree", self.below, is_new=True)
            await asyncio.to_thread(leave_only_tree, work)
            layer = await build.commit(work, meta)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(disk.delete, work))
            raise
        build.store.outcomes.add(self.declared, inputs, key)
        return layer

    def _refuse_network_offline(self) -> None:
        task = self.step.task
        if self.build.policy.offline and task is not None and task.network:
            raise BuildError(
                f"{self.who}: task {self.step.title!r} ({self.step.place}) wants the network, and "
                "this run is offline; try: build it once with the network, or bring it by a bundle"
            )

    async def _do(self, *, python: bool) -> Mapping[str, str]:
        """Do it in a workshop; returns what it has read."""
        build, step, below = self.build, self.step, self.below
        lower = [layer.tree for layer in reversed(below)]
        if python:
            lower.append(await self._python())
        lower.append(await asyncio.to_thread(tools, build.store))
        inputs = Inputs(step.anchor)
        work = await emptied(build.store.work(self.declared))
        network = step.task is not None and step.task.network
        env = dict(outside.environment()) if network else {}
        try:
            async with opened(
                lower,
                work,
                name=_machine_name(build.image.name),
                who=self.who,
                portal=build.portal,
                network=network,
                env={**env, **(below[0].meta.config.get("env") or {})},
            ) as fs:
                if network:
                    await outside.furnish(fs)
                fs.inputs, fs.python = inputs, python
                fs.offline, fs.mirror = build.policy.offline, build.image.archive
                fs.note = lambda text: build.tell(self.claim, f"{step.title}: {text}")
                fs.groups = tuple(step.role.groups) if step.role is not None else ()
                await _perform(fs, step)
            await asyncio.to_thread(inputs.settle)
            return inputs.found
        except BaseException as error:
            while isinstance(error, ExceptionGroup):  # of a task group: the first is the cause
                error = error.exceptions[0]
            kept = await asyncio.shield(asyncio.to_thread(self._put_away, work, error))
            if isinstance(error, HostError | NeedsPython) or passes_through(error):
                raise
            raise BuildError(self._failure(error) + kept) from error

    async def _python(self) -> Path:
        """The tree of a system with a Python that goes beneath an image without one."""
        image = await asyncio.to_thread(lender_for, self.build.image, self.below)
        try:
            built = await self.lend(image)
        except BuildError as error:
            raise BuildError(
                f"image {self.build.image.name!r}: it has no Python for Ansible's modules, and "
                f"none can be lent to it: {error}"
            ) from error
        return built.layers[0].tree

    def _put_away(self, work: Path, error: BaseException) -> str:
        """Delete what a failed step has left, or keep it for a look; returns what to tell."""
        build = self.build
        if not build.policy.keep_broken or not isinstance(error, Exception):
            disk.delete(work)
            return ""
        leave_only_tree(work)
        name = _machine_name(build.image.name)
        build.store.broken.keep(
            work,
            name,
            image=build.image.name,
            title=self.step.title,
            layers=[layer.key for layer in self.below],
            error=str(error),
        )
        return f"\nkept for a look: pytest-carthage images shell {name}"

    def _failure(self, error: BaseException) -> str:
        step = self.step
        function = None if step.task is None else step.task.function
        role = f" of role {type(step.role).__name__}" if step.role is not None else ""
        said = described(error, function).replace(f"{self.who}: ", "", 1)
        text = f"{self.who}: task {step.title!r}{role} ({step.place}) failed: {said}"
        return text + space_advice(error, self.build.store)


async def _perform(fs: Workshop, step: Step) -> None:
    if step.task is not None:
        await fs.perform(step.task, step.role)
    elif step.file is not None:
        file, there = step.file, fs.within(Scope.of(step.anchor))
        await there.put(file.source, file.target, mode=file.mode, user=file.user)
    else:
        await fs.install(*step.packages)


def _command(step: Step) -> str:
    role = f"{type(step.role).__name__}: " if step.role is not None else ""
    return f"{role}{step.title}"


def _machine_name(name: str) -> str:
    """What an image is called among machines, as in Ansible's inventory."""
    safe = "".join(letter if letter.isalnum() else "-" for letter in name).strip("-")
    if len(safe.encode()) > _LONGEST_NAME:  # it is a folder's name, too
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        safe = f"{safe.encode()[: _LONGEST_NAME - 9].decode(errors='ignore')}-{digest}"
    return safe or "image"
