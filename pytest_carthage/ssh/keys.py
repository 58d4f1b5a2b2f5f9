"""The keys of an environment: who may come in, and by what it is known again."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_carthage.errors import HostError, Problem

__all__ = ["FOLDER", "Keys", "make_keys", "require_asyncssh"]

#: of an environment's folder, which nobody but its owner can enter
FOLDER = "ssh"
_KIND = "ssh-ed25519"


def require_asyncssh() -> None:
    """Refuse to go on where the library that speaks ssh is missing.

    :raises HostError: with what to install.
    """
    if importlib.util.find_spec("asyncssh") is None:
        raise HostError(
            [
                Problem(
                    who="ssh",
                    what="asyncssh is not installed, which answers ssh clients",
                    remedy="pip install 'pytest-carthage[ssh]'",
                    packages=("asyncssh",),
                )
            ]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Where they are; all that is private can be read by its owner only."""

    folder: Path

    @property
    def identity(self) -> Path:
        """The private key of who comes; its public half is beside it, with ``.pub``."""
        return self.folder / "identity"

    @property
    def host_key(self) -> Path:
        """The private key of all machines of the environment; its public half is beside it."""
        return self.folder / "host_key"

    @property
    def known_hosts(self) -> Path:
        """The public host key with the names of machines, for clients; see sshd(8)."""
        return self.folder / "known_hosts"

    def pin(self, names: list[str]) -> None:
        """Have clients expect the host key, and no other, of hosts of these names."""
        public = self.host_key.with_suffix(".pub").read_text().split()[:2]
        lines = [" ".join([name, *public]) for name in names]
        _write(self.known_hosts, "".join(f"{line}\n" for line in lines).encode())


def make_keys(environment: Path) -> Keys:
    """The keys of the environment in a folder; made when they are first asked for.

    :raises OSError: they cannot be written.
    """
    keys = Keys(folder=environment / FOLDER)
    keys.folder.mkdir(mode=0o700, exist_ok=True)
    with _alone(keys.folder):
        for path in (keys.host_key, keys.identity):
            if not path.exists():
                _make(path)
    return keys


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _make(path: Path) -> None:
    import asyncssh

    key = asyncssh.generate_private_key(_KIND, comment="pytest-carthage")
    _write(path.with_suffix(".pub"), key.export_public_key())
    _write(path, key.export_private_key())


def _write(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all, and its owner's only."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
    new.replace(path)
