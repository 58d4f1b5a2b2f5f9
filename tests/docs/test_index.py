"""The index: every page, by its title, with a few words on what it is for."""

from __future__ import annotations

import re

from tests.support.unprivileged import REPOSITORY

DOCS = REPOSITORY / "docs"
INDEX = (DOCS / "index.md").read_text()
ENTRIES = re.findall(r"^\* \[(.+?)\]\((\S+)\): (.+)\.$", INDEX, re.MULTILINE)


def test_index_has_each_page_by_its_title_with_a_description() -> None:
    titles = {
        str(page.relative_to(DOCS)): page.read_text().partition("\n")[0].removeprefix("# ")
        for page in DOCS.glob("*/*.md")
    }
    assert {path: title for title, path, _ in ENTRIES} == titles
    for _, path, description in ENTRIES:
        assert 15 <= len(description) <= 90, path


def test_index_lists_pages_in_the_order_of_the_contents() -> None:
    contents = [
        f"{line}.md"
        for block in re.findall(r"```\{toctree\}\n(.*?)```", INDEX, re.DOTALL)
        for line in block.splitlines()
        if line and not line.startswith(":")
    ]
    assert contents == [path for _, path, _ in ENTRIES]
