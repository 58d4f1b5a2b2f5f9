"""What is kept of something that may go on without end: its beginning and its end."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar, overload

__all__ = ["Kept", "shortened"]

T = TypeVar("T")


class Kept(Sequence[T], Generic[T]):
    """The first and the last of what was appended; the rest is counted only.

    :param head: how many of the first are kept.
    :param tail: how many of the last are kept, beside them.
    """

    def __init__(self, *, head: int, tail: int) -> None:
        self._most = head
        self._head: list[T] = []
        self._tail: deque[T] = deque(maxlen=tail)
        #: how many there were between them
        self.left_out = 0

    def append(self, item: T) -> None:
        """Keep one more, in place of another one where there are many."""
        if len(self._head) < self._most:
            self._head.append(item)
            return
        if len(self._tail) == self._tail.maxlen:
            self.left_out += 1
        self._tail.append(item)

    def __len__(self) -> int:
        return len(self._head) + len(self._tail)

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...

    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        return [*self._head, *self._tail][index]

    def __iter__(self) -> Iterator[T]:
        return iter([*self._head, *self._tail])  # as it is now: others may append meanwhile

    def __repr__(self) -> str:
        return f"<{len(self)} kept, {self.left_out} left out>"

    def remark(self, things: str) -> str:
        """A line on what is left out, as in "12 commands are left out ..."; empty: nothing is."""
        if not self.left_out:
            return ""
        return f"[{self.left_out} {things} are left out after the first {len(self._head)}]\n"


def shortened(text: str, *, head: int, tail: int) -> str:
    """A text, or where it is long its beginning and its end with a remark between them.

    :param head: characters that are kept of the beginning; ``tail`` of the end.
    """
    left_out = len(text) - head - tail
    if left_out <= 0:
        return text
    remark = f"\n[... {left_out} characters are left out of this record ...]\n"
    return text[:head] + remark + text[len(text) - tail :]
