"""Drawings of the tutorials' layouts: what ``pytest-carthage graph`` makes of them now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.unprivileged import REPOSITORY

#: drawing to the layout that it is of
DRAWINGS = {
    "first-steps": "example_suites/first_steps/conftest.py:Pair",
    "shop": "pytest_carthage_fixtures.shop.Shop",
    "small-internet": "example_suites/networking/conftest.py:Internet",
    "deployment": "example_suites/deployment/conftest.py:Site",
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_drawing_is_current(name: str, tmp_path: Path) -> None:
    drawing = tmp_path / f"{name}.svg"
    command = [sys.executable, "-m", "pytest_carthage", "graph", DRAWINGS[name], "-o", str(drawing)]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    shown = REPOSITORY / "docs/tutorial" / drawing.name
    remedy = f"try: pytest-carthage graph {DRAWINGS[name]} -o docs/tutorial/{drawing.name}"
    assert shown.read_text() == drawing.read_text(), remedy
    page = shown.with_suffix(".md").read_text()
    assert f"{{image}} {drawing.name}" in page
