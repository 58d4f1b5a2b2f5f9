"""One image that is being looked for, layer by layer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.errors import BuildError
from pytest_carthage.images.locks.comparison import check_layer
from pytest_carthage.store.holding import Holding
from pytest_carthage.work import space

if TYPE_CHECKING:
    from pytest_carthage.fabric.host.claim import Claim
    from pytest_carthage.images.policy import Policy
    from pytest_carthage.model.image import Image
    from pytest_carthage.portal import Portal
    from pytest_carthage.store.layer import Layer, LayerMeta
    from pytest_carthage.store.root import Store

    #: is told who (an image) does what, in a few words
    Note = Callable[[str, str], None]

__all__ = ["Build", "space_advice"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """One image, where its layers are kept, and what its making may do."""

    image: Image
    store: Store
    portal: Portal
    note: Note
    policy: Policy
    #: the layers that were found or made so far
    holding: Holding = field(default_factory=Holding)

    async def hold(self, layer: Layer) -> bool:
        """Keep others from removing a layer meanwhile; False: somebody just did."""
        return await self.holding.added(layer.path)

    def let_go(self) -> None:
        """Let go of the layers."""
        self.holding.release()

    async def commit(self, work: Path, meta: LayerMeta) -> Layer:
        """Make a layer of a folder, which is held before others can see it.

        :raises BuildError: it cannot be kept.
        """
        await self.holding.added(work)
        await asyncio.to_thread(self._make_room, meta)
        layer = await asyncio.to_thread(self.store.layers.commit, work, meta)
        if not await self.hold(layer):
            raise BuildError(
                f"image {self.image.name!r}: layer {layer.meta.title!r} was removed as soon as it "
                "was there; try: again"
            )
        return layer

    def _make_room(self, meta: LayerMeta) -> None:
        reason = self.store.layers.damage(meta.key)
        if reason and (aside := self.store.set_aside(meta.key)):
            self.note(
                self.image.name,
                f"layer {meta.title!r} was damaged ({reason}): made anew, and set aside as {aside}",
            )

    async def compare(
        self, meta: LayerMeta, tree: Path, below: Sequence[Layer], *, is_new: bool = False
    ) -> None:
        """Compare a layer with what was locked.

        :raises LockError: it differs.
        """
        lock = self.policy.lock
        if lock is None:
            return
        metas = (meta, *(layer.meta for layer in reversed(below)))
        packages = next((meta.packages for meta in metas if meta.packages is not None), {})
        await asyncio.to_thread(
            check_layer, lock, self.image, len(below), meta, tree, packages, is_new=is_new
        )

    def tell(self, claim: Claim, text: str) -> None:
        """Tell how far it is, those who wait for a claimed layer, too."""
        claim.tell(text, self.image.name)
        self.note(self.image.name, text)

    def waiting(self, text: str) -> None:
        """Tell what another process does that makes the same layer."""
        self.note(self.image.name, text)


def space_advice(error: BaseException, store: Store) -> str:
    """What to do about a full disk, on a line of its own; empty: it is not full."""
    advice = space.advice(error, store.root)
    return f"\n{advice}" if advice else ""
