"""Python on pages is code that runs: each line of a snippet is one of a test or a lesson."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest

from tests.docs.console import pages
from tests.support.unprivileged import REPOSITORY

SNIPPETS = [
    (str(page.relative_to(REPOSITORY)), snippet)
    for page in pages()
    for snippet in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
]


#: pages of which a test takes the blocks themselves
TAKEN = {"docs/how-to/keep-and-look.md": "tests/docs/test_keep_and_look.py"}


@functools.cache
def sources() -> dict[Path, str]:
    """What is run: tests, lessons and reference layouts, without their indentation."""
    return {
        path: plain(path.read_text())
        for folder in ("tests", "example_suites", "fixtures")
        for path in (REPOSITORY / folder).rglob("*.py")
    }


def plain(text: str) -> str:
    """Lines without their indentation, and without empty ones."""
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


def test_pages_have_snippets() -> None:
    assert len(SNIPPETS) >= 5


@pytest.mark.parametrize(("page", "snippet"), SNIPPETS)
def test_snippet_is_run_somewhere(page: str, snippet: str) -> None:
    if page in TAKEN:
        test = (REPOSITORY / TAKEN[page]).read_text()
        assert Path(page).name in test
        assert 'block("python")' in test
        return
    text = plain(snippet)
    assert any(text in source for source in sources().values()), f"{page}:\n{snippet}"


INCLUDED = re.compile(r"```\{literalinclude\} (\S+)\n((?::.*\n)*)")


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_what_a_page_includes_is_there(page: Path) -> None:
    # as Sphinx says, too, which these tests have not
    for path, options in INCLUDED.findall(page.read_text()):
        text = (page.parent / path).read_text()
        marks = re.findall(
            r":(?:start|end)-(?:after|before|at): \"?(.*?)\"?$", options, re.MULTILINE
        )
        for mark in marks:
            assert mark.replace('\\"', '"') in text, f"{path}: {mark}"
