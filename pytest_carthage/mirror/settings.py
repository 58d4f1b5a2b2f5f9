"""What a mirror is to serve, and to whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["ADDRESS", "Client", "Settings"]

#: where the mirror listens in every machine
ADDRESS = "127.86.255.254"


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A machine that asks."""

    machine: str
    #: code name of its release; empty: it says none
    suite: str = ""
    #: the archive that its image is made of, as in sources.list(5); empty: the host's own
    mirror: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a mirror serves."""

    #: name of the layout
    layout: str
    #: of this host, for lists and downloads of all archives
    folder: str
    #: nothing is fetched
    offline: bool = False
    #: the whole archive, not only what images have
    is_open: bool = False
    #: names of packages that may be had with what they depend on
    names: Sequence[str] = ()
    #: addresses of other repositories
    repositories: Sequence[str] = ()
    #: address of pip's index; ``"host"``: that of the host's own pip; empty: there is none
    pip: str = ""
    #: address of npm's registry, in the same way
    npm: str = ""

    @property
    def cache(self) -> Path:
        """Folder of the mirror's own."""
        return Path(self.folder) / "mirror"

    @property
    def record(self) -> Mapping[str, Any]:
        """The same as JSON takes it."""
        return asdict(self)
