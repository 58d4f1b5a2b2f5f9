"""What machines of a layout may install by themselves, while they run."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from pytest_carthage.model.mistakes.declaring import declaring
from pytest_carthage.model.names import is_package

__all__ = ["Packages"]

_ADDRESS = re.compile(r"https?://[^/\s]+(/\S*)?", re.ASCII)
_OPEN = "open"


@dataclass(frozen=True, slots=True, init=False)
class Packages:
    """What the package mirror of a layout serves beside what its images have.

    ``Packages("nginx")`` is that package with whatever it depends on; ``Packages("open")`` is the
    whole archive, as the host reaches it.

    :param names: names of Debian packages; ``"open"`` is all of them.
    :param repositories: addresses of other repositories, as in ``sources.list``.
    :param pip: whether pip finds the index of the host's own pip; or the address of an index.
    :param npm: whether npm finds the registry of the host's own npm; or the address of one.
    :raises LayoutError: something is no name, or no address.
    """

    names: tuple[str, ...]
    repositories: tuple[str, ...]
    pip: bool | str
    npm: bool | str

    @declaring("packages", own=1)
    def __init__(
        self,
        *names: str,
        repositories: Iterable[str] = (),
        pip: bool | str = False,
        npm: bool | str = False,
    ) -> None:
        written: object = (repositories,) if isinstance(repositories, str) else repositories
        if not isinstance(written, Iterable):
            raise ValueError(
                f"repositories={written!r} is no list of addresses; "
                'try: repositories=["https://packages.example/debian"]'
            )
        places: tuple[Any, ...] = tuple(written)
        options: dict[str, object] = {"pip": pip, "npm": npm}
        for option, value in options.items():
            if not isinstance(value, bool | str):
                raise ValueError(
                    f"{option}={value!r} is neither True nor False nor an address; "
                    f"try: {option}=True"
                )
        for name in names:
            if not is_package(name) or "=" in name:
                raise ValueError(
                    f'{name!r} is no name of a Debian package; try: Packages("nginx"), or '
                    'Packages("open")'
                )
        given: tuple[object, ...] = (*places, *(one for one in (pip, npm) if isinstance(one, str)))
        for place in given:
            if not isinstance(place, str) or not _ADDRESS.fullmatch(place):
                raise ValueError(
                    f"{place!r} is no address of a repository; "
                    'try: repositories=["https://packages.example/debian"]'
                )
        object.__setattr__(self, "names", tuple(dict.fromkeys(names)))
        object.__setattr__(self, "repositories", tuple(place.rstrip("/") for place in places))
        object.__setattr__(self, "pip", pip)
        object.__setattr__(self, "npm", npm)

    @classmethod
    def of(cls, given: object) -> Self:
        """What an author may write for it: itself, a name, or a list of names.

        :raises LayoutError: a name in it is none.
        :raises ValueError: it is none of them.
        """
        if isinstance(given, cls):
            return given
        if isinstance(given, str):
            return cls(given)
        if isinstance(given, list | tuple):
            return cls(*given)
        raise ValueError(f'{given!r} is no choice of packages; try: packages = "open"')

    @property
    def is_open(self) -> bool:
        """Whether the whole archive is served."""
        return _OPEN in self.names

    @property
    def chosen(self) -> tuple[str, ...]:
        """Names of single packages."""
        return tuple(name for name in self.names if name != _OPEN)
