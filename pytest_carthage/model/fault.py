"""What is wrong with a declaration, kept until the layout that it belongs to is known."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_carthage.errors import LayoutError
from pytest_carthage.model.place import Place

__all__ = ["Fault"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A mistake in one declaration.

    A declaration does not know its name while it is made. It keeps its faults, and the layout
    raises the first of them once the class exists.
    """

    #: what was seen, as in ``"mtu 12 is not between 68 and 65535"``
    what: str
    #: what the author can write instead
    remedy: str
    place: Place

    def error(self, who: str) -> LayoutError:
        """The error to raise; ``who`` as in ``"network 'lan' of layout 'Shop'"``."""
        return LayoutError(f"{who}: {self.what}; declared at {self.place}; try: {self.remedy}")
