"""The messages of ``troubleshooting.md`` and ``scopes.md`` are those of the sources."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

import pytest_carthage
from tests.support.unprivileged import REPOSITORY

PAGES = [
    (REPOSITORY / "docs" / name).read_text()
    for name in ("how-to/troubleshooting.md", "explanation/scopes.md")
]
MESSAGES = [
    line
    for page in PAGES
    for block in re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    for line in block.splitlines()
]


@functools.cache
def texts() -> dict[Path, str]:
    """All that each module says: its literals, with what is put in cut out."""
    return {
        path: "\n".join(
            node.value
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        )
        for path in Path(pytest_carthage.__file__).parent.rglob("*.py")
    }


def pieces(message: str) -> list[str]:
    """What a message always says."""
    return [
        piece.strip() for piece in re.split("…|; try: ", message) if re.search(r"\w{2}|:", piece)
    ]


def unsaid(message: str) -> list[str]:
    """Pieces that no module says."""
    return [
        piece
        for piece in pieces(message)
        if not any(re.search(rf"(?<!\w){re.escape(piece)}", text) for text in texts().values())
    ]


@pytest.mark.parametrize("message", MESSAGES)
def test_message_is_said_by_the_product(message: str) -> None:
    assert pieces(message)
    assert unsaid(message) == []


def test_message_of_somebody_else_is_found_out() -> None:
    assert unsaid("blocked by …, which broke in …") == [", which broke in"]


def test_page_has_a_dozen_messages() -> None:
    assert len(MESSAGES) >= 12
