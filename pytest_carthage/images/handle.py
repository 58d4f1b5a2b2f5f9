"""A built image in a test's hand: what it says, and its files without booting it."""

from __future__ import annotations

import contextlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.images import workshop
from pytest_carthage.work.files.filesystem import Filesystem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_carthage.images.exports.oci.history import HistoryEntry
    from pytest_carthage.model.image import Healthcheck, Image
    from pytest_carthage.model.role import Role
    from pytest_carthage.portal import Portal
    from pytest_carthage.store.built import Built
    from pytest_carthage.store.layer import Layer

__all__ = ["ImageHandle"]


class ImageHandle(Filesystem):
    """A built image.

    Its files are looked at, and commands run among them, in a copy that is thrown away: what they
    change is in no image. Nothing is booted, and they have no network.
    """

    def __init__(self, built: Built, portal: Portal, *, offline: bool = False) -> None:
        self._portal = portal
        self._offline = offline
        self._stack = contextlib.AsyncExitStack()
        #: the layers, and where they are kept
        self.built = built

    @cached_property
    def aio(self) -> workshop.Workshop:
        """Its files as awaitables, opened when first asked for."""
        return self._portal.call(self._open)

    async def _open(self) -> workshop.Workshop:
        return await self._stack.enter_async_context(
            workshop.copied(
                self.built.store,
                self.built.lower,
                name=self.name,
                who=self.built.who,
                portal=self._portal,
                env=dict(self.built.config.env),
            )
        )

    def close(self) -> None:
        """Close its files; opened again they are as they were built."""
        self._portal.call(self._stack.aclose)
        self.__dict__.pop("aio", None)
        self.__dict__.pop("host", None)

    # what it says

    @property
    def image(self) -> Image:
        """Its declaration."""
        return self.built.image

    @property
    def name(self) -> str:
        """What people call it."""
        return self.image.name

    @property
    def key(self) -> str:
        """Content key of its top layer: another one for whatever would make it another image."""
        return self.layers[-1].key

    @property
    def roles(self) -> Sequence[Role]:
        """Roles that it has."""
        return self.image.roles

    @property
    def layers(self) -> Sequence[Layer]:
        """Its layers, the base first."""
        return self.built.layers

    @property
    def history(self) -> Sequence[HistoryEntry]:
        """How it was made, layer by layer, as the OCI image says it."""
        from pytest_carthage.images.exports.oci.history import history

        return history(self.built)

    @property
    def packages(self) -> Mapping[str, str]:
        """Name to version of the Debian packages in it."""
        return self.built.packages

    @property
    def labels(self) -> Mapping[str, str]:
        """Labels, those of its base included."""
        return dict(self.built.config.labels)

    @property
    def env(self) -> Mapping[str, str]:
        """Variables of whatever runs in it."""
        return dict(self.built.config.env)

    @property
    def command(self) -> Sequence[str] | None:
        """What its main process is."""
        return self.built.config.command

    @property
    def user(self) -> str:
        """Who runs the command; empty: root."""
        return self.built.config.user

    @property
    def healthcheck(self) -> Healthcheck | None:
        """What tells whether it works."""
        return self.built.config.healthcheck

    @property
    def tag(self) -> str | None:
        """Its name in the host's image store."""
        return self.image.tag

    @property
    def size(self) -> int:
        """Bytes of all its layers on disk."""
        return sum(layer.meta.size for layer in self.layers)

    # what can be made of it

    def save(self, path: str | Path) -> Path:
        """Save it to a file; what that is, its name says.

        ``.oci.tar``: an OCI archive. ``.tar``, ``.tar.gz``, ``.tar.zst``: its root file system.
        ``.qcow2``, ``.img``: a disk to boot, with its kernel beside it.

        :raises BuildError: it cannot be written.
        """
        from pytest_carthage.images.exports import results

        target = Path(path).absolute()
        self._portal.call(results.save, self.built, target, offline=self._offline)
        return target

    def push(self, destination: str) -> None:
        """Push it to a registry, as in ``"docker://registry.example/team/server:1"``.

        :raises BuildError: the registry refused, with its words.
        """
        from pytest_carthage.images.exports.oci.registry import push

        self._portal.call(push, self.built, destination)

    def __repr__(self) -> str:
        return f"<image {self.name!r} of {len(self.layers)} layers>"
