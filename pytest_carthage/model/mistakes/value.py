"""Values that an author gave: as they are read, and as messages show them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from itertools import islice
from pathlib import PurePath
from reprlib import Repr
from typing import Any

__all__ = ["Unreadable", "probed", "readable", "shown"]

_LONGEST = 300
_DEEPEST = 50
_MOST = 100_000
_LARGEST = 2**128  # an address of IPv6 as a number is still one
_CONTAINERS = (list, tuple, dict, set, frozenset)
_PLAIN = (PurePath, bytes, bytearray, memoryview, type)
_OWN = ("pytest_carthage", "ipaddress")


class Unreadable(Exception):
    """A value that cannot be part of any declaration; its text says what is wrong."""


class _Short(Repr):
    """Writes containers that share their contents, which are without an end when written out."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 8
        self.maxstring = self.maxother = self.maxlong = _LONGEST
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = 50
        self._left = _LONGEST

    def repr1(self, x: object, level: int) -> str:
        self._left -= 1
        return super().repr1(x, level) if self._left > 0 else "..."


def shown(value: object) -> str:
    """A value as a message shows it, whatever its class does: short, and on one line."""
    try:
        text = _Short().repr(value) if type(value) in _CONTAINERS else repr(value)
    except Exception as error:
        return f"<a {type(value).__name__} whose __repr__ raises {type(error).__name__}>"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 40]}...{text[-30:]}"


def readable(value: Any) -> Any:
    """A value as declarations hold it: text and numbers as plain ones, iterators as tuples.

    :raises Unreadable: nobody could hold, show or write it.
    """
    return _Reading(rebuilds=True).read(value, 0)


def probed(value: object) -> None:
    """Refuse what nobody could hold, show or write; nothing is taken from it.

    :raises Unreadable: it is that.
    """
    _Reading(rebuilds=False).read(value, 0)


class _Reading:
    """One pass over a value and all that it holds."""

    def __init__(self, *, rebuilds: bool) -> None:
        self._rebuilds = rebuilds
        self._left = _MOST

    def read(self, value: Any, depth: int) -> Any:
        self._left -= 1
        if self._left < 0:
            raise Unreadable(f"it holds more than {_MOST} values")
        if depth > _DEEPEST:
            raise Unreadable(f"it holds itself, or is nested more than {_DEEPEST} deep")
        kind = type(value)
        if value is None or kind is bool:
            return value
        if issubclass(kind, str):
            return self._plain(value, self._text(str.__str__(value)))
        if issubclass(kind, int):
            return self._plain(value, self._whole(int.__int__(value)))
        if issubclass(kind, float):
            return self._plain(value, self._number(float.__float__(value), depth))
        if kind.__module__.partition(".")[0] in _OWN or issubclass(kind, _PLAIN):
            if issubclass(kind, PurePath):
                self._text(str(value))
            elif not is_dataclass(kind) and kind is not type:  # a handle, say
                self._shows(value)
            return value
        if issubclass(kind, dict) or (self._rebuilds and issubclass(kind, Mapping)):
            return self._mapping(value, depth)
        if issubclass(kind, list | tuple | set | frozenset):
            return self._several(value, depth)
        if self._rebuilds and issubclass(kind, Iterable) and not is_dataclass(value):
            return self._several(value, depth)
        self._shows(value)
        return value

    def _plain(self, value: Any, plain: Any) -> Any:
        return plain if self._rebuilds else value

    def _text(self, text: str) -> str:
        if "\0" in text:
            raise Unreadable(f"{shown(text)} has a null byte, which ends text")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Unreadable(
                f"{shown(text)} has half of a surrogate pair, which is no character"
            ) from None
        return text

    def _whole(self, number: int) -> int:
        if abs(number) > _LARGEST:
            raise Unreadable(f"a number of {number.bit_length()} bits is too large")
        return number

    def _number(self, number: float, depth: int) -> float:
        # an argument by itself is told of where its bounds are known
        if depth and not math.isfinite(number):
            raise Unreadable(f"{number!r} is no number that JSON could hold")
        return number

    def _mapping(self, value: Any, depth: int) -> Any:
        pairs: dict[Any, Any] = {}
        for key in islice(value, _MOST):
            pairs[self.read(key, depth + 1)] = self.read(value[key], depth + 1)
        return pairs if self._rebuilds else value

    def _several(self, value: Any, depth: int) -> Any:
        items: Iterator[Any] = iter(value)
        read = [self.read(item, depth + 1) for item in items]
        if not self._rebuilds:
            return value
        kind = type(value)
        for plain in (list, set, frozenset):
            if issubclass(kind, plain):
                return plain(read)
        return tuple(read)

    def _shows(self, value: object) -> None:
        try:
            repr(value)
        except Exception as error:
            raise Unreadable(
                f"a {type(value).__name__} cannot be shown: its __repr__ raises"
                f" {type(error).__name__}"
            ) from error
