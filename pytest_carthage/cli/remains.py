"""What a layout leaves that did not come up: looked at, or kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.errors import CarthageError

if TYPE_CHECKING:
    from pytest_carthage.live.environment import AsyncLayout

__all__ = ["Remains"]

#: of former runs that did not come up, as many have their remains
_KEPT = 3
#: a folder's name, where bundles of tests have that of the test
_SUBJECT = "up"


class Remains:
    """What the machines of one environment had to say, in a folder of the state's.

    :param name: of the environment.
    :param keep_for_s: how long what stands of it is kept; 0: it is destroyed; None: for ever.
    """

    def __init__(self, run: str, name: str, *, keep_for_s: float | None) -> None:
        from pytest_carthage.report.bundle import Shelf, prune
        from pytest_carthage.state import places

        base = places.own_folder("artifacts")
        prune(base, keep=_KEPT)
        self._name = name
        self._keep_for_s = keep_for_s
        self._shelf = Shelf(base / run)
        #: machines that are kept; none: nothing is
        self._living: tuple[str, ...] = ()

    async def look(self, environment: AsyncLayout) -> None:
        """Look at what there is, before it is destroyed; or keep it."""
        try:
            await self._shelf.foresee(_SUBJECT, environment, since_s=0.0)
        finally:
            if self._keep_for_s != 0:
                self._living = tuple(await environment.keep_remains(for_s=self._keep_for_s))

    def explained(self, error: CarthageError) -> CarthageError:
        """The error, with what it names as it is now, and where the rest is."""
        name = self._name
        if self._living:
            return CarthageError(
                f"{error}\nkept, as far as it stands: pytest-carthage shell {name}/"
                f"{self._living[0]} (or exec, logs); remove: pytest-carthage rm {name}"
            )
        folder: Path | None = self._shelf.former(name)
        if folder is None:  # nothing was begun
            return error
        text = self._shelf.whereabouts(name, otherwise="up --keep-on-fail")(str(error))
        nothing = "" if self._keep_for_s == 0 else "\nnothing is kept: no machine came to life"
        return CarthageError(f"{text}{nothing}\nwhat its machines printed: {folder}")
