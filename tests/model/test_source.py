"""Source text of functions, as it was when they were made."""

from __future__ import annotations

import importlib.util
import os
import time
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.model.source import source_of


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


def test_function_without_a_file_counts_by_its_byte_code() -> None:
    def made(text: str) -> str:
        scope: dict[str, Any] = {}
        exec(compile(text, "<typed>", "exec"), scope)
        return source_of(scope["price"])

    text = "def price():\n    return [each for each in {'a', 'b'} for f in [lambda: 'one']]\n"
    assert made(text) == made(text)
    assert "0x" not in made(text)
    assert made(text) != made(text.replace("one", "two"))
