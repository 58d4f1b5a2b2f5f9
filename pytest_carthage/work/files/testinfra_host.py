"""testinfra over a machine's handle: every assertion is one call on the kept channel.

testinfra's own backends start a process of the container engine, or an ssh client, per
assertion; this one starts nothing but the command itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from testinfra.backend.base import BaseBackend, CommandResult
from testinfra.host import Host

from pytest_carthage.handles.encoding import decoded, encoding_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_carthage.handles.result import Result

__all__ = ["Backend", "Runs", "make_host"]


class Runs(Protocol):
    """What a machine must be able to do to be asserted on."""

    @property
    def name(self) -> str:
        """The machine's name in its layout."""
        ...

    @property
    def locale(self) -> Mapping[str, str]:
        """What its programs are told of languages and encodings, among other variables."""
        ...

    def run(
        self,
        command: list[str],
        /,
        *,
        user: str | None = None,
        check: bool = True,
        secret: bool = False,
    ) -> Result:
        """Run a command in the machine, to its end."""
        ...


class _AsUser(str):
    """A shell command that another user is to run; ``user`` is its name."""

    user: str
    __slots__ = ("user",)


class _SecretResult(CommandResult):  # type: ignore[misc]
    """What a secret command gave, for who asks for it."""

    def __repr__(self) -> str:
        return f"CommandResult(command={self.command!r}, exit_status={self.exit_status}, secret)"


class Backend(BaseBackend):  # type: ignore[misc]
    """Runs testinfra's shell commands through a machine's handle."""

    NAME = "carthage"

    def __init__(self, machine: Runs, user: str | None = None) -> None:
        super().__init__(machine.name if user is None else f"{user}@{machine.name}")
        self._machine = machine
        self._user = user

    def run(self, command: str, *args: str, **kwargs: Any) -> CommandResult:
        """Run a shell command as testinfra's modules write them.

        :param secret: keep its output out of every record, testinfra's log included.
        """
        secret = bool(kwargs.get("secret"))
        line = self.get_command(command, *args)
        user = line.user if isinstance(line, _AsUser) else self._user
        shell = ["/bin/sh", "-c", str(line)]
        result = self._machine.run(shell, user=user, check=False, secret=secret)
        # a shell's way to tell of a signal, which testinfra's modules know
        status = result.status if result.status >= 0 else 128 - result.status
        printed = result.stdout_bytes, result.stderr_bytes
        if secret:
            return _SecretResult(self, status, line.encode(), *printed)
        return self.result(status, line.encode(), *printed)

    def get_sudo_command(self, command: str, sudo_user: str | None) -> str:
        """Mark a command for another user (root by default).

        The channel changes users by itself: the machine needs no sudo. Of nested ``sudo()``
        contexts the innermost counts, as it would with sudo.
        """
        if isinstance(command, _AsUser):
            return command
        marked = _AsUser(command)
        marked.user = sudo_user or "root"
        return marked

    def get_encoding(self) -> str:
        """The machine's text encoding, without asking it: that of the locale it was given."""
        return encoding_of(self._machine.locale)

    def decode(self, data: bytes) -> str:
        """What was printed as text, as :attr:`.Result.stdout` has it."""
        return decoded(self.get_encoding(), data)[1][0]


def make_host(machine: Runs, user: str | None = None) -> Host:
    """Make the testinfra host of a machine; keep it, since it remembers what it detected.

    :param user: who runs its commands; None: root.
    """
    backend = Backend(machine, user)
    host = Host(backend)
    backend.set_host(host)
    return host
