"""What builds of images may do in this session: fetch, and differ from a lock."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.images.policy import Policy

if TYPE_CHECKING:
    import pytest

    from pytest_carthage.live.layout import Layout
    from pytest_carthage.model.image import Image
    from pytest_carthage.planning.plan import Plan
    from pytest_carthage.plugin.settings import Settings

__all__ = ["Policies"]


class Policies:
    """Finds what is allowed to the build of a layout or an image."""

    def __init__(self, settings: Settings) -> None:
        self._locks = settings.locked
        self._general = Policy(
            offline=settings.offline, keep_broken=settings.keep_on_fail or settings.keep
        )

    @property
    def offline(self) -> bool:
        """Whether nothing may be fetched."""
        return self._general.offline

    async def of_layout(
        self,
        layout: type[Layout],
        plan: Plan,
        request: pytest.FixtureRequest,
        *,
        note: Callable[[str, str], None],
    ) -> Policy:
        """Find the policy of a layout; what it forbids is found before anything is built.

        The lock is one that was named, or else the nearest: beside the file that has the layout,
        in the folder of the tests that use it, or above.

        :param note: is given who is looked at, and how far that is.
        :raises pytest_carthage.errors.LockError: there is no lock, it is damaged, of another
            layout, or what would be built differs from it.
        :raises pytest_carthage.errors.BuildError: something would have to be fetched.
        """
        policy = self._general
        if self._locks is None and not policy.offline:
            return policy
        from pytest_carthage.images.locks.finding import find
        from pytest_carthage.images.preflight import check_layout

        if self._locks is not None:
            lock = find(
                layout,
                self._locks,
                folder=request.config.invocation_params.dir,
                places=_places(Path(inspect.getfile(layout)), request),
            )
            policy = replace(policy, lock=lock)
        await check_layout(layout, plan, policy, note=note)
        return policy

    async def of_image(self, image: Image, request: pytest.FixtureRequest) -> Policy:
        """Find the policy of an image that is no layout's; its lock is searched as a layout's.

        :raises pytest_carthage.errors.LockError: no lock has it.
        :raises pytest_carthage.errors.BuildError: something would have to be fetched.
        """
        policy = self._general
        if self._locks is not None:
            from pytest_carthage.images.locks.finding import find_for_image

            lock = find_for_image(
                image,
                self._locks,
                folder=request.config.invocation_params.dir,
                places=_places(Path(image.place.file), request),
            )
            policy = replace(policy, lock=lock)
        if policy.offline:
            from pytest_carthage.images.preflight import check

            alone = replace(policy, lock=None)
            await check("", {image.name: image}, alone, note=lambda subject, text: None)
        return policy


def _places(file: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """Folders in which a lock may be, the nearest first."""
    root = request.config.rootpath
    item: Any = getattr(request, "_pyfuncitem", None)
    path: Path | None = getattr(item, "path", None)
    starts = [file.absolute().parent]
    starts += [path.parent] if path is not None else []
    yield from starts
    for start in starts:
        for folder in start.parents:
            if folder.is_relative_to(root):
                yield folder
