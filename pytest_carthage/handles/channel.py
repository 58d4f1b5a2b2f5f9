"""The way to an agent: one question, one answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

__all__ = ["Channel"]


class Channel(Protocol):
    """A connection to an agent, or to the fabric's init process: one question, one answer.

    The operations and their fields are listed in ``pytest_carthage.fabric.wire.frames``.
    """

    async def request(
        self, op: str, /, *, fds: Sequence[int] = (), **fields: object
    ) -> tuple[dict[str, Any], list[int]]:
        """Ask; returns the reply and the descriptors that came with it (the caller closes them).

        :raises FabricError: refused, with the reason; or the other end is gone.
        """
        ...
