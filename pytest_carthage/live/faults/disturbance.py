"""Live faults: bad and pulled cables, cuts between machines, frozen and crashed machines.

A fault is in force when the call that began it returns, and until it is healed: by ``heal()``,
by the end of its ``with`` block, or at the end of the test or fixture that began it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Set
from contextvars import ContextVar
from typing import Any, Literal, Self

from pytest_carthage import clock
from pytest_carthage.bridge import Blocks, Opening, operation
from pytest_carthage.errors import CarthageError
from pytest_carthage.live.surroundings import Tells
from pytest_carthage.portal import Portal

__all__ = ["AsyncDisturbance", "Disturbance", "Kind", "within"]

Kind = Literal["impair", "down", "partition", "freeze", "crash", "storm"]

#: the storm that the running task belongs to
within: ContextVar[DisturbanceOperations | None] = ContextVar("within", default=None)


class DisturbanceOperations:
    """What can be done with a fault that has begun."""

    def __init__(
        self,
        tells: Tells,
        portal: Portal,
        kind: Kind,
        subject: str,
        keys: Set[tuple[str, ...]],
        heal: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self.portal = portal
        #: impair, down, partition, freeze, crash or storm
        self.kind = kind
        #: what has happened to whom, as in ``link web.eth0 down``
        self.subject = subject
        #: name of the environment
        self.environment = tells.name
        #: UNIX time at which it was in force
        self.began_s = clock.unix_s()
        #: UNIX time at which it was healed; None: it is in force
        self.healed_s: float | None = None
        #: more about it, for the record
        self.detail: dict[str, Any] = {}
        #: the storm that it belongs to
        self.part_of: DisturbanceOperations | None = within.get()
        #: what no other fault may have at the same time
        self.keys = keys
        self._tells = tells
        self._begin = clock.monotonic_s()
        #: ends it, and tells nobody
        self.undo = heal
        self._healing: asyncio.Task[None] | None = None

    @property
    def is_active(self) -> bool:
        """Whether it is in force."""
        return self.healed_s is None

    @operation
    async def heal(self) -> None:
        """End it; to end it twice is no error.

        :raises CarthageError: it cannot be ended; what is not as it was is in the message.
        """
        if self.healed_s is not None:
            return
        healing = self._healing
        if healing is None or healing.done():  # it has failed: once more
            healing = self._healing = asyncio.ensure_future(self._heal())
        await asyncio.shield(healing)

    async def _heal(self) -> None:
        try:
            await self.undo()
        except CarthageError as error:
            self._tell("failed", f"not healed: {str(error).splitlines()[0]}")
            raise
        self.healed_s = clock.unix_s()
        self._tell("done", "healed")

    def ended(self) -> None:
        """Take in that it is over, as what it was on is no more."""
        if self.healed_s is None:
            self.healed_s = clock.unix_s()
            self._tell("done", "over, as its machine is no more")

    def _tell(self, kind: Literal["done", "failed"], text: str) -> None:
        self._tells.tell(f"fault {self.subject}", kind, text, self._begin)

    def record(self) -> dict[str, Any]:
        """What it is and when it was, for a report."""
        return {
            "kind": self.kind,
            "what": self.subject,
            "began_s": round(self.began_s, 6),
            "healed_s": None if self.healed_s is None else round(self.healed_s, 6),
            **({"part_of": self.part_of.subject} if self.part_of is not None else {}),
            **self.detail,
        }

    def __repr__(self) -> str:
        state = "in force" if self.is_active else "healed"
        return f"<fault {self.subject}: {state}>"


class AsyncDisturbance(DisturbanceOperations):
    """A fault that has begun; every coroutine may be awaited from any event loop."""

    async def aclose(self) -> None:
        """As :meth:`heal`."""
        await self.heal()


class Disturbance(Blocks, DisturbanceOperations):
    """A fault that has begun: the form of :class:`AsyncDisturbance` for callers that wait.

    As a context manager, it heals at the end of the block.
    """

    def __init__(self, aio: DisturbanceOperations) -> None:
        self.aio = aio

    @classmethod
    def of(cls, opening: Opening[Any, Any], portal: Portal) -> Self:
        """Begin it now."""

        async def begin() -> AsyncDisturbance:
            begun: AsyncDisturbance = await opening
            return begun

        return cls(portal.call(begin))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.heal()
