"""Command lines that README and documentation tell people to type."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pytest_carthage import cli
from tests.support.unprivileged import REPOSITORY

PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *REPOSITORY.glob("docs/**/*.md")]


def typed(program: str) -> list[str]:
    """Every line of a console block that calls this program."""
    blocks = [
        block
        for page in PAGES
        for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL)
    ]
    lines = [line.partition(" && ") for block in blocks for line in block.splitlines()]
    parts = [part for first, _, second in lines for part in (first, second)]
    # what a program prints need not be a line of a shell
    return sorted({part for part in parts if part.split()[:1] == [program]})


@pytest.mark.parametrize("line", typed("pytest-carthage"))
def test_command_of_ours_is_understood(line: str) -> None:
    cli._parser().parse_args(shlex.split(line, comments=True)[1:])


@pytest.mark.parametrize("line", typed("pytest"))
def test_options_of_pytest_are_understood(line: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(line, comments=True), "--collect-only"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    if "--carthage-use" in line:  # there is nothing to use here
        assert "no environment of this name is alive" in done.stderr
    else:
        assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, done.stderr


def test_tox_environments_exist() -> None:
    text = (REPOSITORY / "tox.ini").read_text()
    there = set(re.findall(r"^\[testenv:(\w+)", text, re.MULTILINE))
    called = {
        name
        for page in PAGES
        for names in re.findall(r"tox -e ([\w,]+)", page.read_text())
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
