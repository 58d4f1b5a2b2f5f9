"""One fault that is in force in a fabric."""

from __future__ import annotations

from collections.abc import Callable

from pytest_carthage.fabric.wire.steps import Steps, Turn

#: who asked for something: a connection, and the number of its request
Origin = tuple[object, int]


class Fault:
    """One that is in force, or about to be."""

    def __init__(self, number: int, kind: str, origin: Origin) -> None:
        self.number = number
        self.kind = kind
        self.origin = origin
        #: one at a time ends it, or has it forget somebody
        self.turn = Turn()
        #: whether nobody waits for it any more
        self.is_unwanted = False
        self.machines: set[str] = set()
        #: ends it
        self.heal: Callable[[], Steps[None]] | None = None
        #: has it go on without a machine; None: it ends with any of its machines
        self.leave: Callable[[str], Steps[None]] | None = None
