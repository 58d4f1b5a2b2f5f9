"""The agent far away is one program, for the Pythons that machines have."""

from __future__ import annotations

import ast
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from pytest_carthage.channels.far.program import agent_program

#: Pythons that are looked for, beside that of the tests
_OLD = sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3"))


def test_program_is_of_the_oldest_python_that_it_is_for() -> None:
    ast.parse(agent_program(), feature_version=(3, 6))


def test_modules_of_the_program_have_no_name_twice() -> None:
    names: Counter[str] = Counter()
    for node in ast.parse(agent_program()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names[node.name] += 1
        elif isinstance(node, ast.Assign):
            names.update(
                name.id
                for target in node.targets
                for name in ast.walk(target)
                if isinstance(name, ast.Name)
            )
    assert [name for name, count in names.items() if count > 1] == ["__all__"]


def test_program_needs_nothing_but_the_standard_library() -> None:
    ours = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(agent_program()))
        if isinstance(node, (ast.Import, ast.ImportFrom)) and "carthage" in ast.unparse(node)
    ]
    assert ours == []


@pytest.mark.parametrize("python", _OLD, ids=lambda path: path.parent.parent.name)
def test_program_runs_to_the_end_of_its_input(python: Path) -> None:
    done = subprocess.run(
        [python, "-I", "-S", "-c", agent_program()], input=b"", capture_output=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"carthage here" in done.stdout
