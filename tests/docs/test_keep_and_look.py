"""The example of ``docs/how-to/keep-and-look.md``, run as it is printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.plugin.conftest import Suite, suite  # noqa: F401

pytestmark = pytest.mark.real

PAGE = Path(__file__).parents[2] / "docs/how-to/keep-and-look.md"


def block(language: str) -> str:
    """The first block of code in this language."""
    match = re.search(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert match is not None
    return match[1]


def timeless(text: str) -> str:
    """A summary without what differs from run to run: times, and who runs it where."""
    text = re.sub(r"\d{4}-\d\d-\d\dT\S+", "DATE", text)
    text = re.sub(r"\d\d:\d\d:\d\d(\.\d+)?", "TIME", text)
    text = re.sub(r"after 0\.\d{3} s", "after N s", text)
    text = re.sub(r"cd \S+ && pytest", "cd FOLDER && pytest", text)
    return re.sub(r" --basetemp=\S+", "", text)


def test_first_page_of_a_bundle_is_as_printed(suite: Suite) -> None:  # noqa: F811
    (suite.path / "conftest.py").unlink()
    (suite.path / "test_shop.py").write_text(block("python"))
    suite.pytester.runpytest_subprocess("--carthage-name=demo", timeout=60).assert_outcomes(
        failed=1
    )
    text = (suite.bundle("test_shop.py.test_web_reaches_the_database") / "summary.txt").read_text()
    assert timeless(text) == timeless(block("text"))
