"""What is kept of something that may go on without end: its beginning and its end, or its end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar, overload

__all__ = ["Kept", "shortened"]

T = TypeVar("T")


class Kept(Sequence[T], Generic[T]):
    """The first and the last of what was appended; the rest is counted only.

    :param head: how many of the first are kept.
    :param tail: how many of the last are kept, beside them.
    :param most_bytes: what those of the tail may take together; the last one is kept anyhow.
    :param weigh: what one takes, in bytes.
    """

    def __init__(
        self,
        *,
        head: int,
        tail: int,
        most_bytes: int | None = None,
        weigh: Callable[[T], int] = lambda item: 0,
    ) -> None:
        self._most = head
        self._most_last = tail
        self._most_bytes = most_bytes
        self._weigh = weigh
        self._head: list[T] = []
        self._tail: deque[T] = deque()
        self._bytes = 0
        #: how many there were between them
        self.left_out = 0
        #: the last of those; None: there is none
        self.last_left_out: T | None = None

    def append(self, item: T) -> None:
        """Keep one more, in place of older ones where there are many."""
        if len(self._head) < self._most:
            self._head.append(item)
            return
        self._tail.append(item)
        self._bytes += self._weigh(item)
        while len(self._tail) > self._most_last or self._is_too_heavy:
            self.last_left_out = self._tail.popleft()
            self._bytes -= self._weigh(self.last_left_out)
            self.left_out += 1

    @property
    def _is_too_heavy(self) -> bool:
        return (
            self._most_bytes is not None and self._bytes > self._most_bytes and len(self._tail) > 1
        )

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
        if not self._head:
            return f"[the oldest {self.left_out} {things} are left out]\n"
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
