"""The screen and the keyboard of a domain."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_carthage.errors import CarthageError
from pytest_carthage.screens.picture import is_png, png_of_ppm

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from pytest_carthage.screens.keys import Chord

__all__ = ["keep", "press", "screenshot"]

#: how long keys are held down, and a chord takes with the pause after it: a keyboard keeps 16 bytes
#: of what its machine has not taken, and loses the rest
_HELD_MS, _CHORD_S = 20, 0.06
#: what one picture may take of a machine that is about to be switched off
_KEEP_S = 5.0


async def screenshot(call: Callable[[Callable[[Any, Any], bytes]], Awaitable[bytes]]) -> bytes:
    """What is on a domain's screen: a PNG file.

    :param call: calls ``function(libvirt, domain)`` in a thread.
    :raises ValueError: what QEMU gives is no picture.
    """
    picture = await call(_screenshot)
    return picture if is_png(picture) else await asyncio.to_thread(png_of_ppm, picture)


async def keep(call: Callable[[Callable[[Any, Any], bytes]], Awaitable[bytes]], path: Path) -> None:
    """Write what is on a domain's screen to a file; none where nothing is, or it takes too long.

    :param call: calls ``function(libvirt, domain)`` in a thread.
    """
    with contextlib.suppress(CarthageError, TimeoutError, ValueError, OSError):
        async with asyncio.timeout(_KEEP_S):
            picture = await screenshot(call)
        await asyncio.to_thread(path.write_bytes, picture)


def _screenshot(libvirt: Any, domain: Any) -> bytes:
    stream = domain.connect().newStream(0)
    pieces: list[bytes] = []
    try:
        domain.screenshot(stream, 0, 0)
        while piece := stream.recv(1 << 18):
            pieces.append(piece)
        stream.finish()
    except BaseException:
        stream.abort()
        raise
    return b"".join(pieces)


async def press(
    call: Callable[[Callable[[Any, Any], None]], Awaitable[None]], chords: Sequence[Chord]
) -> None:
    """Press keys, one chord after the other.

    :param call: calls ``function(libvirt, domain)`` in a thread.
    """
    for chord in chords:
        await call(partial(_send, keys=list(chord)))
        # nothing tells that the machine has taken it
        await asyncio.sleep(_CHORD_S)


def _send(libvirt: Any, domain: Any, *, keys: list[int]) -> None:
    domain.sendKey(libvirt.VIR_KEYCODE_SET_LINUX, _HELD_MS, keys, len(keys), 0)
