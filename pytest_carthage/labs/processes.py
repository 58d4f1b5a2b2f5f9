"""What a lab's container runs: its entry point, and the command that this is given."""

from __future__ import annotations

from pytest_carthage.labs.documents import Block
from pytest_carthage.labs.lab import Lab

__all__ = ["command_of"]


def command_of(block: Block, lab: Lab, reference: str | None, key: str) -> list[str]:
    """The main process, where a container says more of it than its image; else no words.

    A command alone is given to the image's own entry point.

    :param reference: its image; None: one that is built.
    :param key: of the command.
    """
    begin, given = block.words("entrypoint"), block.words(key)
    if begin or not given:
        return [*begin, *given]
    own = None if reference is None else lab.entry_point(reference)
    if own is None:
        what = "the entry point of its image is not known, and the command stands for that, too"
        block.remark(key, what)
    return [*(own or ()), *given]
