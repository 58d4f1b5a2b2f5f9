"""What the README shows is what the suites run."""

from __future__ import annotations

import re

import pytest

from tests.support.unprivileged import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
#: a comment names the file, the fenced block after it shows the file
SHOWN = re.findall(r"<!-- (\S+) -->\n+```\w+\n(.*?)```", README, re.DOTALL)


def test_readme_shows_files() -> None:
    assert {path.partition("/")[0] for path, _ in SHOWN} == {"example_suites", "tests"}


@pytest.mark.parametrize(("path", "shown"), SHOWN)
def test_readme_shows_a_file_as_it_is(path: str, shown: str) -> None:
    assert shown == (REPOSITORY / path).read_text()


def test_readme_shows_no_other_python() -> None:
    assert README.count("```python") == len(SHOWN)


def test_readme_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", README):
        assert "://" in target or (REPOSITORY / target).exists(), target
