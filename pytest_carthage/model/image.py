"""Images: the root file systems that machines start from."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from pytest_carthage.model.fault import Fault
from pytest_carthage.model.place import Place

__all__ = ["FORMAT", "Image", "is_package"]

#: part of every key: raised when images with equal declarations would be built differently
FORMAT = 1

_SUITE = re.compile(r"[a-z][a-z0-9.-]*", re.ASCII)
# Debian policy 5.6.1, then apt's own suffixes for an architecture and a version.
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9-]+)?(=[A-Za-z0-9.+~:-]+)?", re.ASCII)
_REFERENCE = re.compile(r"[A-Za-z0-9]\S*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A root file system, by what is in it. Equal declarations are built once."""

    kind: Literal["debian", "oci"]
    #: code name of the distribution's release; empty for kind oci
    suite: str = ""
    #: sorted names of the packages wanted beyond the minimum
    packages: tuple[str, ...] = ()
    #: where an existing image is found; empty for kind debian
    reference: str = ""
    #: what people call it; not part of its identity
    name: str = field(default="", compare=False)
    place: Place = field(default_factory=Place.of_author, compare=False, repr=False)

    @classmethod
    def debian(cls, suite: str, *, packages: Sequence[str] = (), name: str | None = None) -> Image:
        """A minimal Debian of this suite (``"bookworm"``) with these packages."""
        ordered: tuple[str, ...]
        try:
            ordered = tuple(sorted({packages} if isinstance(packages, str) else set(packages)))
        except TypeError:  # no iterable of strings: left for the layout to refuse
            ordered = (packages,)  # type: ignore[assignment]
        return cls(
            kind="debian",
            suite=suite,
            packages=ordered,
            name=name or f"debian-{suite}",
        )

    @classmethod
    def oci(cls, reference: str) -> Image:
        """An image that exists already, as in ``"localhost/name:tag"``."""
        return cls(kind="oci", reference=reference, name=str(reference))

    def with_packages(self, *names: str) -> Image:
        """The same Debian image with more packages.

        :raises LayoutError: an existing image is taken as it is.
        """
        if set(names) <= set(self.packages):
            return self
        if self.kind != "debian":
            raise Fault(
                what=f"packages ({', '.join(names)}) cannot be added to an existing image",
                remedy='Image.debian("bookworm", packages=[...])',
                place=Place.of_author(),
            ).error(f"image {self.name!r}")
        return Image(
            kind=self.kind,
            suite=self.suite,
            packages=tuple(sorted({*self.packages, *names})),
            name=self.name,
            place=self.place,
        )

    @property
    def key(self) -> str:
        """Content key: the same for images that would be built alike (hexadecimal SHA-256)."""
        content = [FORMAT, self.kind, self.suite, self.packages, self.reference]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What is wrong with the declaration."""
        found: list[Fault] = []

        def fault(what: str, remedy: str) -> None:
            found.append(Fault(what=what, remedy=remedy, place=self.place))

        if self.kind == "debian":
            if not _is(_SUITE, self.suite):
                fault(f"{self.suite!r} is not the name of a suite", 'Image.debian("bookworm")')
            for package in self.packages:
                if not is_package(package):
                    fault(
                        f"{package!r} is not the name of a Debian package",
                        'packages=["iproute2", "python3"]',
                    )
        elif not _is(_REFERENCE, self.reference):
            fault(
                f"{self.reference!r} is not an image reference",
                'Image.oci("localhost/name:tag")',
            )
        return tuple(found)


def is_package(name: object) -> bool:
    """Whether apt can be asked for it: a name, perhaps with ``:architecture`` and ``=version``."""
    return _is(_PACKAGE, name)


def _is(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None
