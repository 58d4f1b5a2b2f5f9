"""Whether a machine's systemd has started all that it should: asked from inside."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pytest_carthage.channels.agent import Interrupted, execute
from pytest_carthage.errors import FabricError
from pytest_carthage.placing import systemd

if TYPE_CHECKING:
    from pytest_carthage.handles.channel import Channel

__all__ = ["STARTED", "state_of_systemd"]

#: what systemctl(1) says of a systemd that has started all that it should
STARTED = ("running", "degraded")
#: what systemd may take to say what it is doing
_ASK_S = 5.0


async def state_of_systemd(limit_s: float, channel: Channel) -> str:
    """What systemd says of itself when it has started, or after so much time.

    :raises FabricError: the machine is gone.
    """
    deadline = asyncio.get_running_loop().time() + limit_s
    while True:
        try:
            _, out, err = await execute(
                channel,
                ["systemctl", "is-system-running", "--wait"],
                user=None,
                cwd=None,
                env={},
                input=None,
                timeout_s=max(0.1, deadline - asyncio.get_running_loop().time()),
            )
            seen = (out.strip() or err.strip()).decode(errors="replace")
        except Interrupted:
            return await _unfinished(channel)
        except FabricError as error:
            if error.errno is None:  # not a refusal
                raise
            seen = str(error)
        if seen in STARTED or asyncio.get_running_loop().time() > deadline:
            return seen
        # its bus is not there at once, and nothing tells when
        await asyncio.sleep(0.01)


async def _unfinished(channel: Channel) -> str:
    """What systemd is still starting, for a message.

    :raises FabricError: the machine is gone.
    """
    try:
        _, out, _ = await execute(
            channel, systemd.JOBS, user=None, cwd=None, env={}, input=None, timeout_s=_ASK_S
        )
    except Interrupted:
        return "still starting"
    return f"still starting: {systemd.unfinished(out.decode(errors='replace'))}"
