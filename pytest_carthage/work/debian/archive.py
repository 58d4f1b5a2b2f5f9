"""Where packages of one suite and architecture come from."""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
from dataclasses import dataclass, field

from pytest_carthage.errors import HostError, Problem
from pytest_carthage.fabric.host.programs import PATH
from pytest_carthage.work.debian import sources

__all__ = ["Archive", "native_architecture"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """Where packages of one suite and architecture come from, and by which way."""

    suite: str
    architecture: str
    #: entries in deb822 form, without passwords
    sources: str
    #: whether they lead to this host's own disks only
    is_local: bool = False
    #: text of an apt.conf(5): how this host reaches them
    options: str = field(default="", repr=False)
    #: text of an apt_auth.conf(5)
    logins: str = field(default="", repr=False)

    @classmethod
    def of(cls, *, suite: str, architecture: str, mirror: str = "") -> Archive:
        """That of a suite of Debian, by the same way as the host's own apt.

        :param mirror: address of an archive that is used instead; a path: a folder of this host.
        """
        entries, logins = sources.without_logins(
            sources.mirror_entries(suite, mirror)
            if mirror
            else sources.sources_for(suite) or sources.default_entries(suite)
        )
        return cls(
            suite=suite,
            architecture=architecture,
            sources=entries,
            is_local=sources.is_local(entries),
            options=sources.apt_options(),
            logins=logins,
        )

    def __str__(self) -> str:
        return f"Debian {self.suite} ({self.architecture})"

    @property
    def name(self) -> str:
        """A folder's name: another one for whatever makes it another archive."""
        key = hashlib.sha256(f"{self.sources}\0{self.architecture}".encode()).hexdigest()[:16]
        return f"{self.suite}-{key}"

    @property
    def listed(self) -> str:
        """Its entries, indented."""
        return "\n".join(f"  {line}" for line in self.sources.splitlines() if line)


@functools.cache
def native_architecture() -> str:
    """Debian's name of this host's architecture, as in ``"amd64"``.

    :raises HostError: there is no dpkg here.
    """
    try:
        return subprocess.run(
            ["dpkg", "--print-architecture"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PATH": PATH},
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        raise HostError(
            [
                Problem(
                    who="images",
                    what="no dpkg, which knows this host's architecture",
                    remedy="build Debian images on a host that is Debian or derived from it",
                )
            ]
        ) from None
