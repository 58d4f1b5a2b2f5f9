"""What of production's code was reached by all runs of a session, as a value.

Each run of Ansible has left records in a folder (see the callback ``carthage_coverage``); runs of
any number of layouts, tests and processes come together by file and line.
"""

from __future__ import annotations

import collections
import functools
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pytest_carthage.handles.lines import lines_of

__all__ = ["Condition", "Coverage", "Part", "Source", "Sum", "Task", "Template", "read"]

#: *skipped*: it came to its turn, and each time a condition was false
State = Literal["ran", "skipped", "never"]

#: version of the record that :meth:`Coverage.record` gives
VERSION = 1

#: folders of code that is nobody's here
_INSTALLED = ("site-packages", "dist-packages", "ansible_collections")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """How many of how many."""

    covered: int
    total: int

    def __add__(self, other: Sum) -> Sum:
        return Sum(covered=self.covered + other.covered, total=self.total + other.total)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task or handler, where it is written."""

    line: int
    name: str
    kind: Literal["task", "handler"]
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition of a ``when:``, where it is written; it has two branches."""

    line: int
    column: int
    text: str
    #: the task, block, import or role that it belongs to
    whose: str
    was_true: bool
    was_false: bool

    @property
    def was_asked(self) -> bool:
        """Whether it ever came to anything."""
        return self.was_true or self.was_false


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One file of a playbook or role."""

    path: Path
    #: name of its role; empty: it is of no role
    role: str
    tasks: tuple[Task, ...]
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """One file below a folder ``templates`` of a role, or beside a playbook."""

    path: Path
    role: str
    was_read: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A role, or a playbook with what it includes of no role, and its sums."""

    #: the role's name, or the path of the file
    name: str
    tasks: Sum
    handlers: Sum
    templates: Sum
    #: two for each condition
    branches: Sum


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """All that there is of the playbooks and roles that were used, and what of it was reached."""

    #: what paths are told relative to
    root: Path
    sources: tuple[Source, ...]
    templates: tuple[Template, ...]

    def shown(self, path: Path) -> str:
        """A path as people see it: relative where it is below the root."""
        return str(path.relative_to(self.root) if path.is_relative_to(self.root) else path)

    @property
    def parts(self) -> list[Part]:
        """Sums of each file of no role, then of each role."""
        sources = collections.defaultdict[str, list[Source]](list)
        templates = collections.defaultdict[str, list[Template]](list)
        for source in self.sources:
            sources[source.role or self.shown(source.path)].append(source)
        for template in self.templates:
            templates[template.role or self.shown(template.path.parent)].append(template)
        roles = {source.role for source in self.sources}
        roles |= {template.role for template in self.templates}
        names = sorted({*sources, *templates}, key=lambda name: (name in roles, name))
        return [_part(name, sources[name], templates[name]) for name in names]

    @property
    def total(self) -> Part:
        """Sums of everything."""
        return _part("total", self.sources, self.templates)

    def record(self) -> dict[str, Any]:
        """What JSON holds of it, see the reference of options."""
        return {
            "version": VERSION,
            "root": str(self.root),
            "total": _sums(self.total),
            "parts": [{"name": part.name, **_sums(part)} for part in self.parts],
            "files": [
                {
                    "path": self.shown(source.path),
                    "role": source.role,
                    "tasks": [
                        {
                            "line": task.line,
                            "name": task.name,
                            "kind": task.kind,
                            "state": task.state,
                        }
                        for task in source.tasks
                    ],
                    "conditions": [
                        {
                            "line": condition.line,
                            "column": condition.column,
                            "when": condition.text,
                            "of": condition.whose,
                            "true": condition.was_true,
                            "false": condition.was_false,
                        }
                        for condition in source.conditions
                    ],
                }
                for source in self.sources
            ],
            "templates": [
                {
                    "path": self.shown(template.path),
                    "role": template.role,
                    "read": template.was_read,
                }
                for template in self.templates
            ],
        }


def _part(name: str, sources: Iterable[Source], templates: Iterable[Template]) -> Part:
    sources, templates = list(sources), list(templates)

    def ran(kind: str) -> Sum:
        states = [task.state for source in sources for task in source.tasks if task.kind == kind]
        return Sum(covered=states.count("ran"), total=len(states))

    conditions = [condition for source in sources for condition in source.conditions]
    return Part(
        name=name,
        tasks=ran("task"),
        handlers=ran("handler"),
        templates=Sum(covered=sum(each.was_read for each in templates), total=len(templates)),
        branches=Sum(
            covered=sum(each.was_true + each.was_false for each in conditions),
            total=2 * len(conditions),
        ),
    )


def _sums(part: Part) -> dict[str, dict[str, int]]:
    sums = {
        "tasks": part.tasks,
        "handlers": part.handlers,
        "templates": part.templates,
        "branches": part.branches,
    }
    return {name: {"covered": each.covered, "total": each.total} for name, each in sums.items()}


def read(folder: Path, *, root: Path, without: Path) -> Coverage:
    """Bring together what all runs have left in a folder.

    Installed collections and packages are left out, and what was written for one test only.

    :param without: a folder of temporary files: what is in it counts only below the root.
    """
    root, without = root.resolve(), without.resolve()
    sources: dict[Path, Mapping[str, Any]] = {}
    templates: dict[Path, str] = {}
    reads: set[str] = set()
    states: dict[tuple[Path, str], State] = {}
    asked: set[tuple[Path, str, bool]] = set()
    for record in _records(folder):
        if "source" in record:
            sources[_real(record["source"])] = record
        elif "template" in record:
            templates[Path(record["template"])] = record["role"]
        elif "read" in record:
            reads |= {record["read"], os.path.realpath(record["read"])}
        elif "when" in record:
            path, line, column = record["when"].rsplit(":", 2)
            asked.add((_real(path), f"{line}:{column}", record["is"]))
        elif "ran" in record:
            states[_place(record["ran"])] = "ran"
        else:
            states.setdefault(_place(record["reached"]), "skipped")

    def counts(path: Path) -> bool:
        if not path.exists() or any(name in _INSTALLED for name in path.parts):
            return False
        return path.is_relative_to(root) or not path.is_relative_to(without)

    return Coverage(
        root=root,
        sources=tuple(
            _source(path, record, states, asked)
            for path, record in sorted(sources.items())
            if counts(path)
        ),
        templates=tuple(
            Template(
                path=path,
                role=role,
                was_read=bool({str(path), os.path.realpath(path)} & reads),
            )
            for path, role in sorted(templates.items())
            if counts(path)
        ),
    )


def _source(
    path: Path,
    record: Mapping[str, Any],
    states: Mapping[tuple[Path, str], State],
    asked: set[tuple[Path, str, bool]],
) -> Source:
    return Source(
        path=path,
        role=record["role"],
        tasks=tuple(
            Task(line=line, name=name, kind=kind, state=states.get((path, str(line)), "never"))
            for line, name, kind in sorted(record["tasks"])
        ),
        conditions=tuple(
            Condition(
                line=line,
                column=column,
                text=text,
                whose=whose,
                was_true=(path, f"{line}:{column}", True) in asked,
                was_false=(path, f"{line}:{column}", False) in asked,
            )
            for line, column, text, whose in sorted(record["conditions"])
        ),
    )


def _records(folder: Path) -> Iterator[dict[str, Any]]:
    for file in sorted(folder.glob("*.jsonl")):
        for line in lines_of(file.read_text(encoding="utf-8", errors="surrogateescape")):
            try:
                yield json.loads(line)
            except ValueError:  # it was killed while it wrote
                continue


def _place(text: str) -> tuple[Path, str]:
    path, _, line = text.rpartition(":")
    return _real(path), line


@functools.lru_cache(maxsize=4096)
def _real(path: str) -> Path:
    return Path(os.path.realpath(path))
