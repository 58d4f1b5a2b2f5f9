"""Files of the host that an image has."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pytest_carthage.model.mistakes.declaring import declaring
from pytest_carthage.model.mistakes.mistake import Mistake
from pytest_carthage.model.mistakes.place import Place
from pytest_carthage.model.mistakes.value import shown
from pytest_carthage.model.names import is_user

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

    @declaring("file", own=1)
    def __init__(
        self,
        source: str | Path,
        target: str,
        *,
        mode: int | None = None,
        user: str | None = None,
    ) -> None:
        place = Place.of_author()
        for what, remedy in _mistakes(source, target, mode, user):
            raise Mistake(what=what, remedy=remedy, place=place).error("file")
        for name, value in (
            ("source", Path(place.file).parent / source),
            ("target", target),
            ("mode", mode),
            ("user", user),
            ("place", place),
        ):
            object.__setattr__(self, name, value)


def _mistakes(source: object, target: object, mode: object, user: object) -> list[tuple[str, str]]:
    """What is wrong, and what can be written instead."""
    mistakes = []
    if not isinstance(source, str | Path) or not str(source) or not str(source).isprintable():
        mistakes.append((f"source={shown(source)} is no path", 'File("site.conf", "/etc/...")'))
    if not isinstance(target, str) or not target.startswith("/") or not target.isprintable():
        mistakes.append(
            (f"target={shown(target)} is no path that begins with /", 'File("...", "/etc/x.conf")')
        )
    elif ".." in target.split("/") or len(target.encode()) > _LONGEST_PATH:
        mistakes.append((f"target={shown(target)} is no plain path", 'File("...", "/etc/x.conf")'))
    if mode is not None and (type(mode) is not int or not 0 <= mode <= _LAST_MODE):
        mistakes.append((f"mode={shown(mode)} is no permission bits", "mode=0o644"))
    if user is not None and not is_user(user):
        mistakes.append((f"user={shown(user)} is no name of a user", 'user="www-data"'))
    return mistakes


_LAST_MODE = 0o7777
_LONGEST_PATH = 4095  # PATH_MAX without the null byte
