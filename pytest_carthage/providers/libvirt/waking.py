"""Machines that are told who they are, or what time it is, where they go on from kept memory."""

from __future__ import annotations

import asyncio
import secrets
import shlex
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from pytest_carthage import clock
from pytest_carthage.channels.agent import Interrupted, execute
from pytest_carthage.errors import FabricError
from pytest_carthage.fabric.wire.channel import AsyncChannel
from pytest_carthage.images.seeds.commands import settings_of
from pytest_carthage.images.seeds.wiring import wiring_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_carthage.handles.channel import Channel
    from pytest_carthage.images.seeds.wiring import Wiring
    from pytest_carthage.planning.plan import PlannedMachine

    #: opens a channel to a machine
    Reach = Callable[[], Awaitable[Channel]]

__all__ = ["ask", "become", "renew"]

#: between two who ask an agent that is not there yet
_AGAIN_S = 0.02
#: what links may take to be configured where that was told to a networkd that runs
_LINKS_S = 5.0


async def become(
    reach: Reach,
    planned: PlannedMachine,
    left: Sequence[str],
    *,
    gone: Sequence[str],
    limit_s: float,
    waits: bool,
    note: Callable[[str], None],
) -> str:
    """Have a clone be itself, and start what there is to start; returns what its boot is called.

    :param reach: opens a channel to it, another one if that was closed.
    :param left: units that have not been started.
    :param gone: files that it does not have.
    :param waits: until that is started.
    :param note: is told what could not be done.
    :raises FabricError: it cannot be told who it is.
    """
    boot_id = str(uuid.uuid4())
    channel = await _reached(reach, limit_s)
    wiring = wiring_of(planned)
    # who asks for addresses of IPv6 has an identifier that comes from the machine's
    forgets = any(6 in wire.dhcp for wire in wiring.wires)
    await ask(
        *(channel, "become", limit_s, note),
        boot_id=boot_id,
        gone=list(gone),
        forgets=forgets,
        **_links(wiring),
        wait=min(limit_s, _LINKS_S),
    )
    start = ["systemctl", "start", *([] if waits else ["--no-block"]), "default.target"]
    needs = any(wire.planned.required and wire.up for wire in wiring.wires)
    if wiring.nat or (left and not needs):  # what the seed has of units is another thing then
        start = ["/bin/sh", "-c", f"systemctl daemon-reload && {shlex.join(start)}"]
    elif not left:
        return boot_id
    try:
        status, _, err = await execute(
            channel, start, user=None, cwd=None, env={}, input=None, timeout_s=limit_s
        )
    except Interrupted as error:
        raise FabricError(f"it did not start the rest in {limit_s:g} s") from error
    if status:
        note(err.decode(errors="replace").strip())
    return boot_id


def _links(wiring: Wiring) -> dict[str, Any]:
    """Links, as a clone is told of them: those of its cards are configured at once."""
    links, later = [], []
    for wire in wiring.wires:
        if not wire.up:
            continue
        link = wire.spec
        if link["kind"] in ("bridged", "trunk") and not wire.dhcp:
            links.append(
                {
                    "name": wire.name,
                    "mtu": link["mtu"],
                    "settings": list(settings_of(wire)),
                    "addresses": link["addresses"],
                    "routes": wire.routes,
                }
            )
        elif wire.planned.required:
            later.append(wire.name)
    return {"links": links, "later": later}


async def renew(reach: Reach, *, limit_s: float, note: Callable[[str], None]) -> str:
    """Have a machine that was put back know what time it is; returns what its boot is called."""
    channel = await _reached(reach, limit_s)
    return str((await ask(channel, "renew", limit_s, note))["boot"])


async def _reached(reach: Reach, limit_s: float) -> Channel:
    """A channel by which its agent answers; who was there in its memory hangs up first."""
    seen = "it was not there"
    try:
        async with asyncio.timeout(limit_s):
            while True:
                try:
                    channel = await reach()
                    await channel.request("ping")
                except FabricError as error:
                    seen = str(error) or seen
                    await asyncio.sleep(_AGAIN_S)
                else:
                    return channel
    except TimeoutError:
        raise FabricError(f"its agent did not answer in {limit_s:g} s (last: {seen})") from None


async def ask(
    channel: Channel, op: str, limit_s: float, note: Callable[[str], None], **fields: Any
) -> Mapping[str, Any]:
    """Have an agent do something of a machine's identity; it is told the time, and entropy.

    :raises FabricError: it does not answer in time.
    """
    if isinstance(channel, AsyncChannel):
        # it may be silent for long, where its processors are emulated; there is a limit for that
        channel.is_excused = lambda: True
    try:
        async with asyncio.timeout(limit_s):
            reply, _ = await channel.request(
                op, time=clock.unix_s(), entropy=secrets.token_hex(64), **fields
            )
    except TimeoutError:
        raise FabricError(f"its agent did not answer in {limit_s:g} s") from None
    for failure in reply["failed"]:
        note(failure)
    return reply
