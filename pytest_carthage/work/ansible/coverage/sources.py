"""What there is to reach in files of Ansible: tasks, handlers, conditions and templates.

The files are composed, not constructed: nodes have places, and tags of any kind are let pass. A
place is that of Ansible itself: a task is where its mapping begins, a condition where its text
does.

This is loaded into ``ansible-playbook``, which brings PyYAML.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

__all__ = ["files_of_role", "source", "templates_of"]

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_BLOCK = ("block", "rescue", "always")
_PLAY = ("pre_tasks", "tasks", "post_tasks", "handlers")
#: they are gone when a play begins: what they stand for is there instead
_STATIC = ("import_tasks", "import_role", "import_playbook")
_PREFIXES = ("", "ansible.builtin.", "ansible.legacy.")
#: keywords of a task that come before its module in many files
_NO_MODULE = (
    "name", "when", "tags", "register", "become", "become_user", "vars", "loop", "notify", "listen",
    "delegate_to", "changed_when", "failed_when", "no_log", "until", "retries", "delay", "args",
    "environment", "ignore_errors", "run_once", "check_mode", "diff", "loop_control",
)  # fmt: skip


def files_of_role(folder: str) -> Iterator[tuple[str, str]]:
    """Each file of a role that holds tasks, and its kind: ``tasks``, ``handlers`` or ``meta``."""
    for kind in ("tasks", "handlers"):
        for path in _files(Path(folder, kind)):
            if path.endswith((".yml", ".yaml", ".json")):
                yield path, kind
    for name in ("main.yml", "main.yaml", "main.json"):
        meta = Path(folder, "meta", name)
        if meta.is_file():
            yield str(meta), "meta"


def templates_of(folder: str) -> list[str]:
    """Each file below the ``templates`` of a role's folder, or of a playbook's."""
    return list(_files(Path(folder, "templates")))


def _files(folder: Path) -> Iterator[str]:
    for base, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield str(Path(base, name))


def source(path: str, kind: str) -> dict[str, Any] | None:
    """What one file holds; None: it cannot be read, or holds no list.

    :param kind: ``playbook``, ``tasks``, ``handlers`` or ``meta``.
    :returns: ``tasks`` as ``[line, name, kind]``, ``conditions`` as
        ``[line, column, text, whose]``.
    """
    try:
        with Path(path).open("rb") as file:
            root = yaml.compose(file, Loader=_LOADER)
    except (OSError, yaml.YAMLError):
        return None
    walk = _Walk()
    if kind == "meta":
        walk.roles(_value(root, "dependencies"))
    elif not isinstance(root, yaml.SequenceNode):
        return None
    elif kind == "playbook":
        walk.plays(root)
    else:
        walk.tasks(root, "handler" if kind == "handlers" else "task")
    return {"tasks": walk.found, "conditions": walk.conditions}


class _Walk:
    """Through the nodes of one file."""

    def __init__(self) -> None:
        self.found: list[tuple[int, str, str]] = []
        self.conditions: list[tuple[int, int, str, str]] = []

    def plays(self, node: Any) -> None:
        """The plays of a playbook."""
        for play in _items(node):
            self._when(play, "import_playbook")
            for part in _PLAY:
                self.tasks(_value(play, part), "handler" if part == "handlers" else "task")
            self.roles(_value(play, "roles"))

    def roles(self, node: Any) -> None:
        """Roles of a play, or those that a role depends on."""
        for role in _items(node):
            name = _value(role, "role") or _value(role, "name")
            self._when(role, f"role {_text(name)}")

    def tasks(self, node: Any, kind: str) -> None:
        """A list of tasks, with the blocks in it."""
        for task in _items(node):
            if not isinstance(task, yaml.MappingNode):
                continue
            keys = [_text(key) for key, _ in task.value]
            name = _text(_value(task, "name")) or next(
                (key for key in keys if key not in _NO_MODULE), "task"
            )
            self._when(task, name)
            if any(part in keys for part in _BLOCK):
                for part in _BLOCK:
                    self.tasks(_value(task, part), kind)
            elif not _is_any(keys, (*_STATIC, "meta")):
                self.found.append((task.start_mark.line + 1, name, kind))

    def _when(self, node: Any, name: str) -> None:
        value = _value(node, "when")
        for condition in _items(value) if isinstance(value, yaml.SequenceNode) else [value]:
            # a plain ``true`` or ``false`` has no two ways
            if isinstance(condition, yaml.ScalarNode) and condition.tag == "tag:yaml.org,2002:str":
                mark = condition.start_mark
                text = " ".join(condition.value.split())
                self.conditions.append((mark.line + 1, mark.column + 1, text, name))


def _is_any(keys: list[str], names: tuple[str, ...]) -> bool:
    return any(f"{prefix}{name}" in keys for prefix in _PREFIXES for name in names)


def _items(node: Any) -> list[Any]:
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _value(node: Any, key: str) -> Any:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if _text(name) == key:
                return value
    return None


def _text(node: Any) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else ""
