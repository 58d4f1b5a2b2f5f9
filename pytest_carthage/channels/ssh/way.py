"""How a host is reached by ssh: what may be written down of it, and what may not."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_carthage.errors import FabricError

__all__ = ["Secrets", "Way"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a host is reached; holds names of variables in place of what is secret."""

    #: a name of ssh's configuration, a host's name or an address
    host: str
    user: str | None = None
    port: int | None = None
    #: hosts to go through, the nearest first: ``[user@]host[:port]``
    jump: Sequence[str] = ()
    #: a command of this host whose standard streams lead to the host's sshd
    proxy_command: str | None = None
    #: path of a socket of this host that leads there
    socket: str | None = None
    #: socket of an environment's fabric, and the place in that from whose network it is reached
    inside: Sequence[str] = ()
    #: files of ssh_config(5); None: the user's own
    config: Sequence[str] | None = None
    #: file of a private key; None: the user's keys and agent
    identity: str | None = None
    #: a public host key, its fingerprint (``SHA256:...``), or the path of a known_hosts file;
    #: None: the user's own
    host_key: str | None = None
    #: who commands are run by; None: who has come
    become: str | None = None
    become_method: str = "sudo"
    password_env: str | None = None
    passphrase_env: str | None = None
    become_password_env: str | None = None
    connect_timeout_s: float = 15.0
    #: variables of who asks, which its ssh goes by: its home, its agent
    surroundings: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Way:
        """The way of which :meth:`as_record` has told."""
        return cls(**record)

    def as_record(self) -> dict[str, Any]:
        """Plain values, which hold no secret."""
        return dataclasses.asdict(self)

    def here(self) -> Way:
        """The same, with the surroundings of this process."""
        names = ("HOME", "USER", "LOGNAME", "PATH", "SSH_AUTH_SOCK")
        found = {name: os.environ[name] for name in names if name in os.environ}
        return dataclasses.replace(self, surroundings=found)

    def through(self, hosts: str) -> Way:
        """The way to the last of the hosts that are gone through.

        :param hosts: each ``[user@]host[:port]``, the nearest first, with commas between them.
        """
        nearer, _, last = hosts.rpartition(",")
        user, _, place = last.strip().rpartition("@")
        host, _, port = place.rpartition(":")
        if not port.isdecimal() or (":" in host and not host.endswith("]")):  # IPv6 without a port
            host, port = place, ""
        return Way(
            host=host.strip("[]"),
            user=user or None,
            port=int(port) if port else None,
            jump=tuple(nearer.split(",")) if nearer else (),
            config=self.config,
            passphrase_env=self.passphrase_env,
            surroundings=self.surroundings,
        )

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        port = f":{self.port}" if self.port else ""
        return f"{user}{self.host}{port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """What is answered where a password is asked for; it is in memory only."""

    password: str | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)
    become_password: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, way: Way, environment: Mapping[str, str]) -> Secrets:
        """Read those that a way names.

        :raises FabricError: a variable that it names is not set.
        """
        values: dict[str, str] = {}
        for name in ("password", "passphrase", "become_password"):
            variable = getattr(way, f"{name}_env")
            if variable is None:
                continue
            if variable not in environment:
                raise FabricError(
                    f"ssh {way}: {name}_env={variable!r}, and there is no such variable; "
                    f"try: export {variable}=..., where pytest is started"
                )
            values[name] = environment[variable]
        return cls(**values)
