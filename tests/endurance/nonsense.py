"""Values that no author should give, as source text and the objects that it names."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

__all__ = ["NAMES", "Hostile", "nonsense"]


class Hostile(Exception):
    """What an author's object raises: the only foreign cause that an error may have."""


def _raises(*_: Any, **__: Any) -> Any:
    raise Hostile("of an author's object")


class BadWords(Exception):
    """An exception whose own text fails."""

    __str__ = _raises


def _raises_badly(*_: Any, **__: Any) -> Any:
    raise BadWords


_METHODS = ("__repr__", "__str__", "__eq__", "__hash__", "__bool__", "__iter__", "__len__")
_MORE = ("__format__", "__getattr__", "__call__", "__fspath__", "__contains__", "__class__")


class OddText(str):
    """Text that is none where it matters."""

    __slots__ = ()
    __eq__ = _raises
    __hash__ = _raises
    __repr__ = _raises
    __str__ = _raises
    __format__ = _raises


class OddNumber(int):
    """A number that cannot be compared or shown."""

    __eq__ = _raises
    __hash__ = _raises
    __repr__ = _raises
    __lt__ = _raises
    __gt__ = _raises


class Word(enum.StrEnum):
    """Text with a name."""

    ETH0 = "eth0"
    NGINX = "nginx"


class Number(enum.IntEnum):
    """A number with a name."""

    TWO = 2


class Endless(Mapping[str, str]):
    """A mapping that goes on for ever."""

    def __getitem__(self, key: str) -> str:
        return key

    def __iter__(self) -> Iterator[str]:
        return map(str, itertools.count())

    def __len__(self) -> int:
        return 1


def endless() -> Iterator[str]:
    """Text after text."""
    return map(str, itertools.count())


def failing() -> Iterator[str]:
    """One value, then an error."""
    yield "eth0"
    raise Hostile("of an author's generator")


def circle() -> list[Any]:
    """A list that holds itself."""
    made: list[Any] = []
    made.append(made)
    return made


def nested(depth: int) -> Any:
    """Lists in lists."""
    made: Any = "x"
    for _ in range(depth):
        made = [made]
    return made


def bushy() -> Any:
    """Few objects that are many values."""
    made: Any = ["x"]
    for _ in range(30):
        made = [made, made]
    return made


def raising(method: str) -> Any:
    """An object one of whose methods raises."""
    body = {method: property(_raises) if method in ("__class__", "__getattr__") else _raises}
    return type("Raising", (), body)()


#: what the source text may use
NAMES: dict[str, Any] = {
    "OddText": OddText,
    "OddNumber": OddNumber,
    "Word": Word,
    "Number": Number,
    "Endless": Endless,
    "Path": Path,
    "endless": endless,
    "failing": failing,
    "circle": circle,
    "nested": nested,
    "bushy": bushy,
    "raising": raising,
    "fails": _raises,
    "fails_badly": _raises_badly,
}

_FIXED = (
    "None",
    "True",
    "False",
    "0",
    "-1",
    "1",
    "2**31",
    "2**63",
    "2**200",
    "1.5",
    "1e-300",
    "1e300",
    "float('inf')",
    "float('-inf')",
    "float('nan')",
    "1j",
    "''",
    "' '",
    "'\\n'",
    "'\\0'",
    "'a\\0b'",
    "'\\ud800'",
    "'a\\udfffb'",
    "'\\x1b[31mred\\x1b[0m'",
    "'\\u202eevil'",
    "'\\r\\x07\\x9b'",
    "'\\u2028'",
    "'a b'",
    "'-rf'",
    "'--'",
    "'.'",
    "'..'",
    "'../../etc'",
    "'/'",
    "'/etc/passwd'",
    "'a/b'",
    "'a=b'",
    "'%s%n{}'",
    "'{}'",
    "'é'",
    "'中文'",
    "'😀'",
    "'x' * 16",
    "'x' * 300",
    "'xn--a'",
    "'xn--bcher-kva'",
    "'localhost'",
    "'all'",
    "'ungrouped'",
    "'lo'",
    "'10.0.0.0/8'",
    "'10.0.0.300'",
    "'fd00::/129'",
    "'::1'",
    "'fe80::1%eth0'",
    "'0x10'",
    "'\\uff11\\uff10'",
    "b'bytes'",
    "b''",
    "bytearray(b'x')",
    "memoryview(b'x')",
    "[]",
    "()",
    "{}",
    "set()",
    "[None]",
    "[[]]",
    "[1, 'a']",
    "('a', 1)",
    "{'a': 1}",
    "{1: 'a'}",
    "{None: None}",
    "{'': ''}",
    "{'a=b': 'c'}",
    "{'a': float('nan')}",
    "{'a': 10**5000}",
    "{'\\0': 'a'}",
    "{'a': '\\ud800'}",
    "{'a': b'x'}",
    "{'eth0': None}",
    "{(1, 2): 3}",
    "frozenset({'a'})",
    "range(3)",
    "failing()",
    "(x for x in ['eth0'])",
    "iter([])",
    "circle()",
    "{'a': circle()}",
    "nested(10)",
    "object()",
    "object",
    "int",
    "str",
    "Ellipsis",
    "NotImplemented",
    "len",
    "print",
    "(lambda: 'x')",
    "(lambda *a, **k: None)",
    "(lambda *a, **k: '\\0')",
    "(lambda *a, **k: 10**5000)",
    "(lambda *a, **k: object())",
    "fails",
    "fails_badly",
    "Path('/nowhere')",
    "Path('.')",
    "Path('a\\0b')",
    "Word.ETH0",
    "Word.NGINX",
    "Word",
    "Number.TWO",
    "OddText('eth0')",
    "OddText('10.0.0.0/24')",
    "OddNumber(3)",
    "Exception('x')",
    "type",
    "Layout",
    "Machine",
    "Network",
    "Image",
    "Role",
    "Router",
    "Machine()",
    "Network()",
    "Image.debian('trixie')",
    "Nginx()",
    "Limits()",
    "port(80)",
    "Forward('eth0', 80, to='web')",
    "V4Config()",
    "IPv4Address('10.0.0.1')",
    "IPv4Network('10.0.0.0/24')",
    "IPv4Interface('10.0.0.1/24')",
    "IPv6Address('fd00::1')",
    "IPv6Network('fd00::/64')",
)

#: what takes its time to be refused
_HEAVY = (
    "'x' * 200_000",
    "range(10**12)",
    "endless()",
    "Endless()",
    "bushy()",
    "nested(5000)",
    "10**5000",
    "-(10**5000)",
)


def nonsense(random: Random) -> str:
    """Source text of one of them."""
    dice = random.random()
    if dice < 0.01:
        return random.choice(_HEAVY)
    if dice < 0.85:
        return random.choice(_FIXED)
    if dice < 0.93:
        return f"raising({random.choice((*_METHODS, *_MORE))!r})"
    inner = nonsense(random)
    return random.choice((f"[{inner}]", f"({inner},)", f"{{'eth0': {inner}}}", f"iter([{inner}])"))
