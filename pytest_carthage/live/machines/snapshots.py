"""Putting a live machine back to what it was."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_carthage.bridge import operation
from pytest_carthage.errors import FabricError
from pytest_carthage.live.machines.power import PowerOperations
from pytest_carthage.provider import Snapshots

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SnapshotOperations"]

#: what every kind of disk can keep as a name, and no number, which some take for a place in a list
_NAME = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)


class SnapshotOperations(PowerOperations):
    """Snapshots of a machine's disks and memory."""

    def _kept(self, use: str) -> Snapshots:
        self.require("snapshots", use)
        assert isinstance(self._means, Snapshots)
        return self._means

    @operation
    async def snapshot(self, name: str) -> None:
        """Keep what the machine is now, its disks and its memory; it goes on.

        :param name: a new one, of up to 63 letters, digits and ``-_.``, with a letter in it.
        :raises FabricError: there is one of this name; the machine is off or frozen; or it cannot
            be kept, as on a full disk: then nothing is kept, and the machine is as it was.
        :raises UnsupportedError: its target cannot.
        """
        means = self._kept("snapshot()")
        if _NAME.fullmatch(name) is None:
            raise FabricError(
                f"{self._who}: a snapshot cannot be called {name!r}; try: letters, digits and "
                "-_. (63 at most, one of them a letter), as in snapshot('imported')"
            )
        self._refuse_out_of_order()
        if self._stopped or self._end is not None:
            raise FabricError(f"{self._who}: it is off, and has no memory to keep; try: start()")
        names = await means.snapshots()
        if name in names:
            raise FabricError(
                f"{self._who}: there is a snapshot {name!r} already; try: another name, or "
                f"revert({name!r})"
            )
        async with self._naming:
            await means.snapshot(name)
            self._names_then[name] = self._names

    @operation
    async def revert(self, name: str) -> None:
        """Put the machine back to what it was, and have it run, also where it is off.

        What runs in it goes on from there; its clock says what time it is now. Commands that are
        under way end, and so do connections. What the layout says of names is written anew.

        :raises FabricError: there is no such snapshot; the machine is frozen; or it cannot be put
            back.
        :raises UnsupportedError: its target cannot.
        """
        means = self._kept("revert()")
        if self.out_of_order == "frozen":
            self._refuse_out_of_order()
        names = await means.snapshots()
        if name not in names:
            there = f"there are {list(names)}" if names else "it has none"
            raise FabricError(
                f"{self._who}: no snapshot {name!r} ({there}); try: snapshot({name!r}) before"
            )
        async with self._naming:
            await means.revert(name)
            self._names = self._names_then.get(name, self._names)
        self._stopped = False
        self.out_of_order = None
        self._begin_anew()
        await self.write_names_again()

    @operation
    async def snapshots(self) -> Sequence[str]:
        """Names of the snapshots of the machine, the oldest first.

        :raises UnsupportedError: its target has none.
        """
        return await self._kept("snapshots()").snapshots()
