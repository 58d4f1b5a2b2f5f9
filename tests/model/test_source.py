"""Source text of functions, as it was when they were made."""

from __future__ import annotations

import importlib.util
import linecache
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.model.keys.source import source_of


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("till", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "till.py"
    path.write_text("def price():\n    return 'one'\n")
    return path


def edit(path: Path, text: str) -> None:
    path.write_text(text)
    later = time.time() + 5
    os.utime(path, (later, later))


def test_source_is_the_text_where_the_file_is_as_it_was(file: Path) -> None:
    assert source_of(load(file).price) == "def price():\n    return 'one'"


def test_edit_after_the_import_is_not_taken_for_what_was_imported(file: Path) -> None:
    old = load(file)
    edit(file, "def price():\n    return 'two'\n")
    told = source_of(old.price)
    assert "two" not in told
    assert "'one'" in told
    assert source_of(load(file).price) == "def price():\n    return 'two'"


def test_lines_that_moved_after_the_import_are_not_taken_for_the_function(file: Path) -> None:
    old = load(file)
    edit(file, "def other():\n    return 'other'\n\n\n" + file.read_text())
    assert "other" not in source_of(old.price)


def made(text: str) -> Any:
    """The function ``price`` of a text that no file has."""
    scope: dict[str, Any] = {}
    exec(compile(text, "<typed>", "exec"), scope)
    return scope["price"]


def test_function_without_a_file_counts_by_its_byte_code() -> None:
    text = "def price():\n    return [each for each in {'a', 'b'} for f in [lambda: 'one']]\n"
    source = source_of(made(text))
    assert source_of(made(text)) == source
    assert "0x" not in source
    assert source_of(made(text.replace("one", "two"))) != source


@pytest.mark.parametrize(
    "other",
    [
        "def price(x, /, y): return x + y",
        "def price(x, *, y): return x + y",
        "def price(x, *y): return x + y",
        "def price(y, x): return y + x",
        "def price(x, y): return x - y",
        "def price(x, y): return x.y",
        "async def price(x, y): return x + y",
    ],
)
def test_byte_code_tells_functions_apart(other: str) -> None:
    assert source_of(made("def price(x, y): return x + y")) != source_of(made(other))


def test_byte_code_tells_what_is_tried() -> None:
    tried = "def price(a, b):\n try:\n  a()\n {}\n except OSError:\n  pass\n {}\n"
    inside, outside = tried.format(" b()", ""), tried.format("", "else:\n  b()")
    assert source_of(made(inside)) != source_of(made(outside))


def test_function_without_a_file_may_stand_anywhere() -> None:
    # a class keeps where it stands, from Python 3.13 on, and what its methods store
    text = """
def price():
    class Till:
        def open(self):
            self.b = self.a = self.c = 1
    return Till
"""
    assert source_of(made(text)) == source_of(made("\n" * 300 + text))


@pytest.fixture
def typed() -> Iterator[list[str]]:
    """Lines that Python remembers of the latest text, as it does of ``python -c`` from 3.13 on."""
    lines: list[str] = []
    linecache.cache["<typed>"] = (0, None, lines, "<typed>")
    yield lines
    del linecache.cache["<typed>"]


def test_text_that_python_remembers_of_another_is_not_taken(typed: list[str]) -> None:
    function = made("def price():\n    return 'one'\n")
    source = source_of(function)
    source_of.cache_clear()
    typed += ["def price():\n", "    return 'two'\n"]
    assert source_of(function) == source


def test_text_that_python_remembers_of_it_is_taken(typed: list[str]) -> None:
    typed += ["\n", "def price():\n", "    return 'one'\n"]
    assert source_of(made("".join(typed))) == "def price():\n    return 'one'"
