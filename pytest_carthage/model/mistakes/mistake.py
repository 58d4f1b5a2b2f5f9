"""What is wrong with a declaration, kept until the layout that it belongs to is known."""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_carthage.errors import LayoutError
from pytest_carthage.model.mistakes.place import Place

__all__ = ["Mistake"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """A mistake in one declaration.

    A declaration does not know its name while it is made. It keeps its mistakes, and the layout
    raises the first of them once the class exists.
    """

    #: what was seen, as in ``"mtu 12 is not between 68 and 65535"``
    what: str
    #: what the author can write instead
    remedy: str
    place: Place
    #: what a function of the author's raised, where that is what is wrong
    cause: BaseException | None = field(default=None, compare=False, repr=False)

    def error(self, who: str) -> LayoutError:
        """The error to raise; ``who`` as in ``"network 'lan' of layout 'Shop'"``."""
        what, remedy = _short(self.what), _short(self.remedy)
        made = LayoutError(f"{who}: {what}; declared at {self.place}; try: {remedy}")
        made.__cause__ = self.cause
        return made


def _short(text: str) -> str:
    """A sentence, of which the middle is left out where a value made it endless."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}...{text[-_LONGEST // 2 :]}"


_LONGEST = 1200
