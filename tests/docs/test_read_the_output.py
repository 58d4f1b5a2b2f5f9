"""What ``docs/how-to/read-the-output.md`` shows is what its suite prints."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.plugin.conftest import Suite, suite  # noqa: F401

pytestmark = pytest.mark.real

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "how-to" / "read-the-output.md"


def comparable(text: str) -> list[str]:
    """Lines without what differs from run to run: times, and what pytest fills lines with."""
    text = re.sub(r"\d+:\d+:\d+", "0:0:0", text)
    text = re.sub(r"\d+\.\d+ ?s", "0 s", text)
    return [re.sub(r"={3,}", "===", line).strip() for line in text.splitlines()]


@pytest.fixture
def printed(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> list[str]:  # noqa: F811
    for name in ("CI", "BUILD_NUMBER"):  # there, pytest cuts nothing
        monkeypatch.delenv(name, raising=False)
    for file in ("conftest.py", "test_shop.py"):
        shutil.copy(HERE / "output" / file, suite.path / file)
    arguments = [option for option in suite.options() if option != "-ra"]
    result = suite.pytester.runpytest_subprocess(*arguments, "-v", "--carthage-name=ci", timeout=60)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    return comparable(result.stdout.str())


def test_page_shows_what_is_printed(printed: list[str]) -> None:
    blocks = re.findall(r"<!-- printed: (\w+) -->\n```text\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert [name for name, _ in blocks] == ["progress", "assertions", "blocked"]
    order = sorted(line for line in printed if re.search(r": (web|db): ", line))
    for _, text in blocks:
        lines = comparable(text)
        # machines are made at the same time
        machines = [line for line in lines if re.search(r": (web|db): ", line)]
        if machines:
            assert sorted(machines) == order
        rest = [line for line in lines if line not in machines]
        begin = printed.index(rest[0])
        after = [line for line in printed[begin:] if line not in machines]
        assert after[: len(rest)] == rest
