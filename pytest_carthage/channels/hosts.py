"""Questions to a machine that begin with the address of a host, which it looks up itself."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING, Any

from pytest_carthage.channels.agent import Interrupted, execute
from pytest_carthage.errors import FabricError, UnsupportedError

if TYPE_CHECKING:
    from pytest_carthage.handles.channel import Channel

__all__ = ["ask_about_host"]

#: a resolver that does not answer is given up after this time
_NAME_S = 15.0


async def ask_about_host(
    channel: Channel, who: str, host: str, op: str, **fields: Any
) -> tuple[dict[str, Any], list[int]]:
    """Ask a machine for something that begins with a host's address.

    :param host: an address, or a name: of its ``/etc/hosts``, or else of its resolver's.
    :raises OSError: there is no such host.
    :raises FabricError: it refuses, or is gone.
    """
    try:
        return await channel.request(op, host=host, **fields)
    except FabricError as error:
        if error.errno != errno.ENOENT:
            raise
    if (address := await _ask_name(channel, host)) is not None:
        return await channel.request(op, host=address, **fields)
    raise OSError(
        errno.ENOENT,
        f"{who}: no host {host!r} in its /etc/hosts, and its resolver knows none",
    )


async def _ask_name(channel: Channel, host: str) -> str | None:
    """The address of a name that the machine's own resolver finds, if it finds one."""
    # it may have no getent(1), or run nothing
    with contextlib.suppress(FabricError, UnsupportedError, Interrupted):
        status, printed, _ = await execute(
            channel,
            ["getent", "ahosts", "--", host],
            user=None,
            cwd=None,
            env={},
            input=None,
            timeout_s=_NAME_S,
        )
        if status == 0 and printed:
            return printed.split()[0].decode()
    return None
