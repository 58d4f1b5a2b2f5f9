"""What runs in a machine when an ssh client asks for a command, a shell or files."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from pytest_carthage.errors import FabricError

if TYPE_CHECKING:
    import asyncssh

    from pytest_carthage.fabric.wire.channel import AsyncChannel

__all__ = ["COMMAND", "SHELL", "file_server", "variables"]

#: the user's own shell, as by sshd(8); it is told to the agent's commands
COMMAND = ("/bin/sh", "-c", 'exec "${SHELL:-/bin/sh}" -c "$1"', "sh")
SHELL = ("/bin/sh", "-c", 'exec "${SHELL:-/bin/sh}" -l')
#: where distributions have it: Debian, Red Hat, Alpine and Arch, others
_SFTP_SERVERS = (
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/lib/ssh/sftp-server",
    "/usr/libexec/sftp-server",
)
#: variables that belong to the user's account
_ACCOUNTS = frozenset({"HOME", "LOGNAME", "SHELL", "USER"})


async def file_server(channel: AsyncChannel, who: str) -> tuple[str, list[str]]:
    """What serves a machine's files: its own program, or else the agent.

    :returns: the operation to ask the agent for, and its command.
    :raises FabricError: neither is there.
    """
    for program in _SFTP_SERVERS:
        with contextlib.suppress(FabricError):
            await channel.request("stat", path=program)
            return "run", [program]
    if "sftp" not in (channel.operations or ()):
        raise FabricError(
            f"{who}: it has no sftp-server (looked for {', '.join(_SFTP_SERVERS)}), and its target "
            "none of its own; try: the package openssh-sftp-server in its image, or scp -O"
        )
    return "sftp", []


def variables(client: asyncssh.SSHServerChannel[bytes], *, on_terminal: bool) -> dict[str, str]:
    """The variables that a client sets, but those of the account."""
    given = client.get_environment()
    env = {name: value for name, value in given.items() if name not in _ACCOUNTS}
    if on_terminal:
        env["TERM"] = client.get_terminal_type() or "dumb"
    return env
