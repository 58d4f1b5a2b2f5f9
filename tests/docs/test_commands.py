"""Command lines that README and documentation tell people to type."""

from __future__ import annotations

import contextlib
import re
import shlex
import subprocess
import sys
import tempfile

import pytest

from pytest_carthage import cli
from tests.docs.console import pages, typed_on
from tests.support.unprivileged import REPOSITORY

TEXTS = {page: page.read_text() for page in pages()}


def typed() -> list[str]:
    """Every call of our command in a console block, also those that no test types."""
    lines = [typed.line for page in TEXTS for typed in typed_on(page)]
    parts = [part for line in lines for part in line.split(" && ")]
    return sorted({part.removeprefix("sudo ") for part in parts if "pytest-carthage " in part})


def named() -> list[str]:
    """Every call of our command within a sentence."""
    prose = [re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S) for text in TEXTS.values()]
    spans = [span for text in prose for span in re.findall(r"`(pytest-carthage [^`]+)`", text)]
    return sorted({" ".join(span.split()) for span in spans})


@pytest.mark.parametrize("line", [line for line in typed() if line.startswith("pytest-carthage")])
def test_command_of_ours_is_understood(line: str) -> None:
    cli._parser().parse_args(shlex.split(line, comments=True)[1:])


@pytest.mark.parametrize("line", named())
def test_command_in_a_sentence_is_understood(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(line)[1:]
    with contextlib.suppress(SystemExit):  # also after its help
        cli._parser().parse_args(words)
    refusal = capsys.readouterr().err
    # a sentence may speak of a command by its bare name
    assert not refusal or (len(words) == 1 and "arguments are required" in refusal), refusal


def test_tox_environments_exist() -> None:
    text = (REPOSITORY / "tox.ini").read_text()
    there = set(re.findall(r"^\[testenv:(\w+)", text, re.MULTILINE))
    called = {
        name
        for text in TEXTS.values()
        for names in re.findall(r"tox -e ([\w,]+)", text)
        for name in names.split(",")
    }
    assert called <= there


@pytest.mark.real
def test_life_without_tests_as_the_documentation_tells() -> None:
    suite = REPOSITORY / "example_suites" / "own_layout"

    def ours(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "pytest_carthage", *words],
            cwd=suite,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "CARTHAGE_STATE": state},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    with tempfile.TemporaryDirectory(prefix="docs-") as state:
        assert "198.51.100.80" in ours("plan", "conftest.py:Branch")
        ours("up", "conftest.py:Branch", "--name", "told")
        try:
            assert "told-branch" in ours("ls")
            assert ours("exec", "desk", "--", "hostname") == "desk\n"
            assert "Serving HTTP" in ours("logs", "server")
            assert "via 10.0.0.1" in ours("graph")
        finally:
            ours("rm", "told-branch")
        assert "told" not in ours("ls")
