"""A key is the same on every Python: tox runs this with each that there is."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from pytest_carthage.model.keys.key import digest
from pytest_carthage.model.keys.references import function_content

#: no future import: from Python 3.14 on, annotations are functions
TILL = """
import collections, datetime, decimal, enum, functools, ipaddress, re, string, types, uuid, zoneinfo
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

NAMES = {"b", "a"}
TABLE = {"x": [1, 2.5, None, True], ("t", 1): b"\\0"}
VALUES = [
    re.compile(r"a+b", re.IGNORECASE), string.Template("$x"), decimal.Decimal("1.50"),
    datetime.datetime(2024, 1, 2, tzinfo=zoneinfo.ZoneInfo("UTC")), uuid.UUID(int=5),
    ipaddress.ip_network("10.0.0.0/8"), PurePosixPath("/srv/x"), Path(__file__).parent / "file",
    range(1, 9, 2), types.SimpleNamespace(a=1), functools.partial(int, base=3),
    collections.OrderedDict(a=1), collections.deque([1, 2], 5), collections.Counter("aab"),
]

class Colour(enum.Enum):
    RED = "red"
    BLUE = 2

class Bits(enum.Flag):
    A = enum.auto()
    B = enum.auto()

class Kind(enum.StrEnum):
    X = enum.auto()

class Drawer:
    limit: int = 3

    def __init__(self, size):
        self.size = size

    def area(self) -> int:
        return self.size * self.limit

    @property
    def double(self):
        return helper(self.size)

    @functools.cached_property
    def triple(self):
        return self.size * 3

    @staticmethod
    def still():
        return NAMES

    @classmethod
    def of(cls):
        return cls(1)

@dataclass(frozen=True, slots=True)
class Point:
    x: int = 1
    y: list[int] = field(default_factory=list)

    def norm(self, colour: Colour = Colour.RED) -> "Colour":
        def inner(bits: Bits) -> Kind:
            return bits
        return self.x

class Child(Drawer):
    def area(self):
        return super().area() + 1

DRAWER, POINT = Drawer(4), Point(3)

def decorated(function):
    @functools.wraps(function)
    def inner(*arguments, **named):
        return function(*arguments, **named)
    return inner

def helper(value: int = 3, *rest, key="k", **more) -> str:
    "one", 2
    from .prices import deep
    from . import prices
    return prices.shallow(value) + deep()

@decorated
def wrapped(x):
    return helper(x)

def generic(value):
    match value:
        case [first, *rest] if first:
            return [name for name in rest if name in NAMES]
        case {"k": Colour.RED}:
            return {key: value for key, value in TABLE.items()}
        case Point(x=1):
            yield

def make(n):
    def closed(x):
        return x + n
    return closed

CLOSED = make(7)

async def task(machine, *, colour=Colour.BLUE, bits=Bits.A | Bits.B, kind=Kind.X):
    class Local:
        size = 1
        def set(self):
            self.b = self.a = 1
    short = lambda value: value in TABLE
    try:
        await machine.run(f"{DRAWER.area()!r:>10} {POINT.norm()} {VALUES}")
    except* OSError:
        pass
    async for each in machine:
        del each
    return wrapped(1), list(generic(2)), CLOSED(1), Child(1), Drawer.of(), short, Local
"""
PRICES = """
LEVEL = 4

def shallow(x):
    return x * LEVEL

def deep():
    return [shallow(each) for each in range(LEVEL)]
"""


def test_key_is_the_same_on_every_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "lab_of_pythons"
    folder.mkdir()
    for name, text in {"__init__": "", "till": TILL, "prices": PRICES}.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    content = function_content(importlib.import_module(f"{folder.name}.till").task)
    names = {name for name, _ in content}
    assert names > {"prices.shallow", "prices.deep", "till.Point.norm", "till.make.<locals>.closed"}
    # to be changed where keys change on purpose, and then for all Pythons
    assert digest(content) == "58a7f3117aa02940c0f38a199461296d"
