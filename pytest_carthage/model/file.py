"""Files of the host that an image has."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pytest_carthage.model.mistakes.place import Place

__all__ = ["File"]


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file, or a folder with all that is in it, of the host that an image has."""

    #: of the folder of the file in which this is written, where it is relative
    source: Path
    target: str
    #: permission bits; None: as on the host
    mode: int | None = None
    user: str | None = None
    place: Place = field(compare=False, repr=False)

    def __init__(
        self,
        source: str | Path,
        target: str,
        *,
        mode: int | None = None,
        user: str | None = None,
    ) -> None:
        place = Place.of_author()
        for name, value in (
            ("source", Path(place.file).parent / source),
            ("target", target),
            ("mode", mode),
            ("user", user),
            ("place", place),
        ):
            object.__setattr__(self, name, value)
