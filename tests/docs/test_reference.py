"""The reference: names that can be imported, and nothing that is the package's own business."""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import pytest_carthage
from pytest_carthage import cli, roles
from tests.support.unprivileged import REPOSITORY

PAGES = sorted((REPOSITORY / "docs/reference").glob("*.md"))
#: modules that authors import from
PUBLIC = (
    "",
    ".channels.consoles",
    ".channels.deputy",
    ".errors",
    ".faults",
    ".plugin.hookspecs",
    ".provider",
    ".roles",
    ".testing",
)
DIRECTIVE = re.compile(
    r"^\.\. (currentmodule|automodule|autoclass|autofunction|autodata):: (\S+)\n((?:   .*\n)*)",
    re.MULTILINE,
)


def faces() -> ModuleType:
    """The extension of Sphinx that leaves internals out."""
    spec = importlib.util.spec_from_file_location("faces", REPOSITORY / "docs/_ext/faces.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shown(page: Path) -> Iterator[tuple[str, str, set[str]]]:
    """Module, name and members that are left out, of each directive of a page."""
    current = "pytest_carthage"
    for directive, target, options in DIRECTIVE.findall(page.read_text()):
        left_out = {
            word
            for line in re.findall(r":exclude-members: (.*)", options)
            for word in line.split(", ")
        }
        if ":no-members:" in options:
            left_out.add("*")
        if directive in ("currentmodule", "automodule"):
            current = target
        if directive == "automodule":
            yield target, "", left_out
        elif directive != "currentmodule":
            module, _, name = target.rpartition(".")
            yield module or current, name, left_out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_reference_names_what_authors_import(page: Path) -> None:
    for module, name, _ in shown(page):
        assert module.removeprefix("pytest_carthage") in PUBLIC, (module, name)
        assert not name or hasattr(importlib.import_module(module), name), (module, name)


def classes_of_the_package() -> set[str]:
    root = Path(pytest_carthage.__file__).parent
    return {
        node.name
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    }


def spoken_of(member: Any) -> set[str]:
    """Names of classes in the signature of a function or a property."""
    function = member.fget if isinstance(member, property) else member
    if not inspect.isfunction(function):
        return set()
    signature = inspect.signature(function)
    words = [each.annotation for each in signature.parameters.values()]
    text = " ".join(str(word) for word in [*words, signature.return_annotation])
    return set(re.findall(r"(?<![.'\"])\b[A-Z]\w+", text))


def test_members_of_handles_speak_of_what_authors_can_import() -> None:
    extension = faces()
    ours = classes_of_the_package() - {"Path", "Any"}
    modules = [importlib.import_module(f"pytest_carthage{module}") for module in PUBLIC]
    public = {name for module in modules for name in getattr(module, "__all__", dir(module))}
    foreign = {}
    for _, name, left_out in shown(REPOSITORY / "docs/reference/handles.md"):
        if not name or "*" in left_out or name not in pytest_carthage.__all__:
            continue
        owner = getattr(pytest_carthage, name)
        for member in dir(owner):
            if member.startswith("_") or member in {"aio", *left_out, *extension.INTERNAL}:
                continue
            value = inspect.getattr_static(owner, member)
            value = getattr(owner, member) if not isinstance(value, property) else value
            spoken = {extension.returned(word) for word in spoken_of(value)}
            if unknown := (spoken & ours) - public - {"Opening"}:
                foreign[f"{name}.{member}"] = unknown
    assert foreign == {}


def test_list_of_internals_names_what_there_is() -> None:
    names = {name for _, name, _ in shown(REPOSITORY / "docs/reference/handles.md")}
    owners = [getattr(pytest_carthage, name) for name in names & {*pytest_carthage.__all__}]
    known = {member for owner in owners for member in [*dir(owner), *assigned(owner)]}
    assert set(faces().INTERNAL) - known == set()


def assigned(owner: Any) -> set[str]:
    """Attributes that the constructors of a class and its bases set."""
    sources = [
        inspect.getsource(cls)
        for cls in inspect.getmro(owner)
        if cls.__module__.startswith("pytest_carthage")
    ]
    return {name for source in sources for name in re.findall(r"self\.(\w+)\b", source)}


@pytest.mark.parametrize(
    ("coroutine", "waiting"),
    [
        ("Fault", "Disturbance"),
        ("Opening[AsyncCapture, Capture]", "Capture"),
        ("AsyncIterator[int]", "AbstractContextManager[int]"),
        ("Result", "Result"),
    ],
)
def test_reference_tells_what_callers_that_wait_get(coroutine: str, waiting: str) -> None:
    assert faces().returned(coroutine) == waiting


@pytest.mark.parametrize(
    "role", [role for role in map(roles.__dict__.get, roles.__all__) if inspect.isclass(role)]
)
def test_reference_shows_parameters_of_roles_with_defaults_and_words(role: type) -> None:
    parameters = inspect.signature(role).parameters
    public = [each for each in fields(role) if each.compare]
    assert list(parameters) == [each.name for each in public]
    assert all(each.default is not inspect.Parameter.empty for each in parameters.values())
    source = "".join(
        inspect.getsource(cls) for cls in inspect.getmro(role) if cls.__module__ != "builtins"
    )
    for name in parameters:
        assert re.search(rf"\n    #:[^\n]*(\n    #:[^\n]*)*\n    {name}: ", source), name


def test_each_command_has_its_help_in_the_reference() -> None:
    page = (REPOSITORY / "docs/reference/commands.md").read_text()
    shown = set(re.findall(r"```\{told\} pytest-carthage (.*?) --help$", page, re.MULTILINE))
    assert shown == {" ".join(words) for words in commands(cli._parser())}


def commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, ...]]:
    """Words of each command of a parser, and of each verb of those that have some."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield (name,)
                yield from ((name, *words) for words in commands(below))
