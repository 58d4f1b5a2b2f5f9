"""Members of a layout: declarations on its class, which are no handles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_carthage.calls import closest

__all__ = ["Member"]


class Member:
    """A declaration, which says so when it is used as if it lived."""

    __slots__ = ()

    @property
    def _called(self) -> str:
        """What it is, in a message: ``"Shop.web"``, or what it shows of itself."""
        return repr(self)

    @property
    def _alive(self) -> str:
        """What to use in its stead, where what it declares lives: ``"shop.web"``."""
        return ""

    if not TYPE_CHECKING:  # a misspelt attribute stays a type error

        def __getattr__(self, name):
            if name.startswith("_"):
                raise AttributeError(name)
            near = closest(name, (one for one in dir(type(self)) if not one.startswith("_")))
            meant = f"; {near}" if near else ""
            alive = f"; use the fixture: {self._alive}.{name}" if self._alive and not near else ""
            raise AttributeError(
                f"{self._called} is the declaration, and has no {name!r}{meant}{alive}", name=name
            )
