"""The data export of the shop."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from pytest_carthage_fixtures.shop import EXPORT, PLAYBOOK, make_export


def test_export_is_what_its_generator_writes() -> None:
    assert gzip.decompress(EXPORT.read_bytes()).decode() == make_export.export_text()


def test_export_has_a_few_hundred_rows_and_the_tills() -> None:
    lines = gzip.decompress(EXPORT.read_bytes()).decode().splitlines()
    assert sum("\t" in line for line in lines) == 100 + 120 + 6 + 180
    assert [line.split("\t")[0] for line in lines if line.startswith("till-")] == [
        f"till-{number:02}" for number in range(1, 7)
    ]


@pytest.mark.parametrize("word", ["carthage", "pytest", "test"])
def test_production_tree_knows_nothing_about_tests(word: str) -> None:
    tree: Path = PLAYBOOK.parent
    knowing = [
        path
        for path in tree.rglob("*")
        if path.is_file() and word in path.read_text().replace("latest", "").lower()
    ]
    assert not knowing
