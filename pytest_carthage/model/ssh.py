"""Machines that exist, and are reached by ssh."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import ClassVar, Literal, cast, get_args

from pytest_carthage.model.mistakes.declaring import declared
from pytest_carthage.model.mistakes.value import shown
from pytest_carthage.model.names import is_user
from pytest_carthage.model.on import On

__all__ = ["Here", "Ssh"]

Method = Literal["sudo", "su", "doas"]

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_HOP = re.compile(r"[^\s\-][^\s,]*")
_MOST_RETURN_S = 240
_LEAST_LEASE_S, _MOST_LEASE_S = 10, 7 * 86400


@dataclass(frozen=True, slots=True)
class Here:
    """A shell command of the host that runs the tests, which restores a machine from there.

    It has the machine's host in ``$CARTHAGE_HOST``, and the folder where pytest was started.
    """

    command: str


@declared("ssh")
@dataclass(frozen=True, slots=True)
class Ssh(On):
    """A host that exists, reached by ssh: ``Machine(on=Ssh("db1.lab", user="root"))``.

    It is reserved, and not built: a lease lies on it for as long as it is used, and nothing is
    written there that nobody asked for. What is not said here comes from the user's own ssh
    configuration, known hosts, keys and agent.

    :param host: name or address, or an alias of the user's ssh configuration.
    :param user: None: what the configuration says, else the user who runs the tests.
    :param port: None: what the configuration says, else 22.
    :param jump: hosts to go through, the nearest first, each ``[user@]host[:port]``.
    :param proxy_command: a command whose standard streams lead to the host, as in ssh_config(5);
        ``%h``, ``%p`` and ``%r`` stand for host, port and user.
    :param config: an ssh_config(5) in place of the user's own.
    :param identity: file of a private key, in place of the user's keys and agent.
    :param host_key: the host's public key, its fingerprint as in ``"SHA256:..."``, or a file of
        known hosts in place of the user's own. A host that shows another key is not talked to.
    :param become: user that commands are run by, by sudo, su or doas; None: who has come.
    :param password_env: environment variable of where the tests run that holds the password. It is
        read when the host is reserved, and never written down.
    :param passphrase_env: the same for the private key.
    :param become_password_env: the same for sudo and su, given where it is asked for.
    :param on_return: steps that restore the host, in their order, when the layout is torn down,
        after ``kill -9`` too: shell commands of the host's, as the user that commands are run by,
        and :class:`Here`, of this host's. Where one fails, the host is marked.
    :param return_timeout_s: seconds that these steps may take, all together; then what runs is
        ended, and the host is marked.
    :param lease_s: seconds after which the lease ends that nobody renews any more.
    :param wait_s: seconds to wait for a host that is somebody else's.
    """

    target: ClassVar[str] = "ssh"

    host: str
    _: KW_ONLY
    user: str | None = None
    port: int | None = None
    jump: str | Sequence[str] = ()
    proxy_command: str | None = None
    config: str | Path | None = None
    identity: str | Path | None = None
    host_key: str | Path | None = None
    become: str | None = None
    become_method: Method = "sudo"
    password_env: str | None = None
    passphrase_env: str | None = None
    become_password_env: str | None = None
    on_return: str | Here | Sequence[str | Here] = ()
    return_timeout_s: float = 60.0
    lease_s: float = 300.0
    wait_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("jump", "on_return"):
            value = getattr(self, name)
            if isinstance(value, str | Here):
                object.__setattr__(self, name, (value,))
            elif isinstance(value, list):
                object.__setattr__(self, name, tuple(value))

    @property
    def hops(self) -> tuple[str, ...]:
        """Hosts to go through, the nearest first."""
        return cast("tuple[str, ...]", self.jump)

    @property
    def steps(self) -> tuple[str | Here, ...]:
        """What restores it."""
        return cast("tuple[str | Here, ...]", self.on_return)

    def wrong_values(self) -> Iterator[tuple[str, str]]:
        """What is wrong with its values, and what can be written instead."""
        host: object = self.host
        if not isinstance(host, str) or not re.fullmatch(r"[^\s\-@/][^\s@/]{0,252}", host):
            yield f"ssh host {shown(host)} is no name of a host", 'Ssh("db1.lab", user="root")'
        for name in ("user", "become"):
            user: object = getattr(self, name)
            if user is not None and not (isinstance(user, str) and is_user(user)):
                yield f"ssh {name} {shown(user)} is no name of a user", f'{name}="root"'
        port: object = self.port
        if port is not None and not (type(port) is int and 0 < port < 65536):
            yield f"ssh port {shown(port)} is not from 1 to 65535", "port=22"
        yield from self._wrong_ways()
        yield from self._wrong_passwords()
        yield from self._wrong_returns()

    def _wrong_ways(self) -> Iterator[tuple[str, str]]:
        jump: object = self.jump
        if not isinstance(jump, tuple) or any(
            not isinstance(hop, str) or not _HOP.fullmatch(hop) for hop in jump
        ):
            yield f"ssh jump {shown(jump)} is no list of hosts", 'jump="me@bastion.lab"'
        command: object = self.proxy_command
        if command is not None and not (isinstance(command, str) and command.strip()):
            yield (
                f"ssh proxy_command {shown(command)} is no command",
                'proxy_command="nc -X connect -x proxy.lab:3128 %h %p"',
            )
        elif command is not None and jump:
            yield "ssh has both jump= and proxy_command=", "one of them"
        for name, example in (
            ("config", 'config="ssh_config"'),
            ("identity", 'identity="~/.ssh/rack"'),
            ("host_key", 'host_key="SHA256:..."'),
        ):
            value: object = getattr(self, name)
            if value is not None and not (isinstance(value, str | Path) and str(value).strip()):
                yield f"ssh {name} {shown(value)} is no text and no path", example

    def _wrong_passwords(self) -> Iterator[tuple[str, str]]:
        for name in ("password_env", "passphrase_env", "become_password_env"):
            value: object = getattr(self, name)
            if value is not None and not (isinstance(value, str) and _VARIABLE.fullmatch(value)):
                yield (  # which may be a password: it is not shown
                    f"ssh {name} is no name of an environment variable",
                    f'{name}="RACK_PASSWORD", and the password in that variable',
                )
        method: object = self.become_method
        if method not in get_args(Method):
            yield f"ssh become_method {shown(method)} is unknown", 'become_method="sudo"'
        elif self.become_password_env is not None and (method == "doas" or self.become is None):
            yield (
                "ssh become_password_env is for become= by sudo or su",
                'become="root", become_method="sudo"',
            )

    def _wrong_returns(self) -> Iterator[tuple[str, str]]:
        steps: object = self.on_return
        if not isinstance(steps, tuple) or any(not _is_step(step) for step in steps):
            yield (
                f"ssh on_return {shown(steps)} is no list of commands",
                'on_return="systemctl restart postgresql", or Here("virsh snapshot-revert ...")',
            )
        return_s: object = self.return_timeout_s
        if not _is_number(return_s) or not 0 < self.return_timeout_s <= _MOST_RETURN_S:
            yield (
                f"ssh return_timeout_s {shown(return_s)} is not above 0, and at most "
                f"{_MOST_RETURN_S}",
                "return_timeout_s=120",
            )
        lease_s: object = self.lease_s
        if not _is_number(lease_s) or not _LEAST_LEASE_S <= self.lease_s <= _MOST_LEASE_S:
            yield (
                f"ssh lease_s {shown(lease_s)} is not from {_LEAST_LEASE_S} to {_MOST_LEASE_S}",
                "lease_s=300",
            )
        wait_s: object = self.wait_s
        if not _is_number(wait_s) or self.wait_s < 0:
            yield f"ssh wait_s {shown(wait_s)} is no time", "wait_s=600"


def _is_step(step: object) -> bool:
    command: object = step.command if isinstance(step, Here) else step
    return isinstance(command, str) and bool(command.strip())


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(float(str(value)))
