"""Records what of a production tree is reached, for the coverage of a whole test session.

``CARTHAGE_ANSIBLE_COVERAGE`` names a folder; without it, and in check mode, the callback is not
called at all. Each run of Ansible appends JSON records, one per line, to a file of its own there:

``{"source": PATH, "role": NAME, "tasks": [...], "conditions": [...]}``
    what a file holds (see ``coverage/sources.py``); of one session, the first run tells it
``{"template": PATH, "role": NAME}``
    a template that there is
``{"reached": "PATH:LINE"}``, ``{"ran": "PATH:LINE"}``
    a task came to its turn; it did something, that is, its conditions held
``{"when": "PATH:LINE:COLUMN", "is": BOOLEAN}``
    what a condition came to
``{"read": PATH}``
    a file below a folder ``templates`` was read
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

from ansible import context
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: carthage_coverage
type: notification
short_description: what of a tree is reached, for pytest-carthage
description:
  - Appends JSON records to a file in the folder that CARTHAGE_ANSIBLE_COVERAGE names.
author: pytest-carthage
"""

_SOURCES = Path(__file__).resolve().parents[2] / "coverage" / "sources.py"
#: what all versions of ansible-core since 2.16 say of a condition that has no answer
_OF_CONDITIONS = ("conditional check", "evaluating conditional", "Conditional result")
_TEMPLATES = f"{os.sep}templates{os.sep}"


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Appends what there is and what is reached, each once."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "carthage_coverage"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        folder = os.environ.get("CARTHAGE_ANSIBLE_COVERAGE", "")
        # what is only foretold is not reached
        self.disabled = not folder or bool(context.CLIARGS.get("check"))
        if self.disabled:
            return
        self._folder = Path(folder)
        self._written: set[str] = set()
        #: roles and files that were looked at
        self._looked: set[str] = set()
        self._sources = _load(_SOURCES)
        name = f"{os.getpid()}-{os.urandom(4).hex()}.jsonl"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._fd = os.open(self._folder / name, flags, 0o600)
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, bytes):
                path = os.fsdecode(path)
            if (
                isinstance(path, str)
                and _TEMPLATES in path
                and not (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_DIRECTORY)
            ):
                self._write(read=os.path.abspath(path))  # noqa: PTH100  links are not followed

    def _write(self, **record: object) -> None:
        line = json.dumps(record) + "\n"
        if line not in self._written:
            self._written.add(line)
            with contextlib.suppress(OSError):  # an action may have closed all descriptors
                os.write(self._fd, line.encode("utf-8", "surrogateescape"))

    # what there is

    def _is_new(self, subject: str) -> bool:
        """Whether no run of this session has told of it."""
        if subject in self._looked:
            return False
        self._looked.add(subject)
        mark = self._folder / hashlib.sha256(os.fsencode(subject)).hexdigest()
        try:
            os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            return False
        return True

    def _tell_file(self, path: str, kind: str, role: str = "") -> None:
        if path and self._is_new(path):
            source = self._sources.source(path, kind)
            if source is not None:
                self._write(source=path, role=role, **source)

    def _tell_templates(self, folder: str, role: str = "") -> None:
        for path in self._sources.templates_of(folder):
            self._write(template=path, role=role)

    def _tell_role(self, role: Any) -> None:
        folder, name = str(role._role_path), role.get_name()
        if not self._is_new(folder):
            return
        for path, kind in self._sources.files_of_role(folder):
            self._tell_file(path, kind, name)
        self._tell_templates(folder, name)

    def _tell_task(self, task: Any) -> None:
        """Tell of the file, or the role, that a task is written in."""
        if (role := task._role) is not None:
            self._tell_role(role)
        elif path := _path(task).rpartition(":")[0]:
            self._tell_file(path, "handlers" if _is_handler(task) else "tasks")

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Tell of the file that was asked for: it may do nothing but import others."""
        self._tell_playbook(os.path.abspath(playbook._file_name))  # noqa: PTH100  as Ansible does

    def _tell_playbook(self, path: str) -> None:
        self._tell_file(path, "playbook")
        folder = str(Path(path).parent)
        if self._is_new(f"{folder}{_TEMPLATES}"):
            self._tell_templates(folder)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Tell of all that the play has been loaded from."""
        if path := _path(play).rpartition(":")[0]:
            self._tell_playbook(path)
        roles = list(play.get_roles())
        for role in roles:
            self._tell_role(role)
            roles += role.get_direct_dependencies()
        blocks = [*play.pre_tasks, *play.tasks, *play.post_tasks, *play.handlers]
        while blocks:
            task = blocks.pop()
            if hasattr(task, "block"):
                blocks += [*task.block, *task.rescue, *task.always]
            else:
                self._tell_task(task)

    def v2_playbook_on_include(self, included: Any) -> None:
        """An included file or role counts from now on; the task that includes has run."""
        task = included._task
        self._ran(task)
        if not getattr(included, "_is_role", False):
            role = task._role
            path = os.path.abspath(str(included._filename))  # noqa: PTH100  as Ansible does
            if role is None or not path.startswith(f"{role._role_path}{os.sep}"):
                self._tell_file(path, "handlers" if _is_handler(task) else "tasks")

    # what is reached

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """A task came to its turn."""
        self._tell_task(task)
        self._write(reached=_path(task))

    def v2_runner_on_ok(self, result: Any) -> None:
        """A task is done."""
        self._result(result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        """A task did nothing."""
        self._result(result, skipped=True)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A task failed, or its condition could not be told."""
        self._result(result, failed=True)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """A task was to run."""
        self._result(result)

    def _result(self, result: Any, *, skipped: bool = False, failed: bool = False) -> None:
        # ansible-core 2.19 renamed the attributes that had an underscore
        task = result.task if hasattr(result, "task") else result._task
        values = result.result if hasattr(result, "result") else result._result
        items = values.get("results")
        if isinstance(items, list) and all(isinstance(item, dict) for item in items):
            for item in items:
                self._outcome(
                    task,
                    item,
                    skipped=bool(item.get("skipped")),
                    # the newest Ansible says by its exception alone that an item failed
                    failed=bool(item.get("failed", "exception" in item)),
                )
        else:
            self._outcome(task, values, skipped=skipped, failed=failed)

    def _outcome(self, task: Any, values: Any, *, skipped: bool, failed: bool) -> None:
        if "false_condition" in values:
            self._conditions(task, str(values["false_condition"]))
        elif "censored" in values and skipped:
            if len(task.when) == 1:  # of several, nobody tells which
                self._conditions(task, str(task.when[0]))
        elif skipped and values.get("skipped_reason") == "No items in the list":
            return
        elif not (failed and _is_about_condition(values)):
            self._ran(task)

    def _ran(self, task: Any) -> None:
        self._write(ran=_path(task))
        self._conditions(task, None)

    def _conditions(self, task: Any, false: str | None) -> None:
        """Each condition held, up to the one that did not; those after it were not asked."""
        for condition in task.when:
            is_false = false is not None and str(condition) == false
            if place := _place(condition):
                self._write(**{"when": place, "is": not is_false})
            if is_false:
                return


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("carthage_coverage_sources", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _path(subject: Any) -> str:
    return str(subject.get_path() or "")


def _is_handler(task: Any) -> bool:
    return type(task).__name__.startswith("Handler")


def _place(text: object) -> str:
    """Where the text of a condition is written, as ``PATH:LINE:COLUMN``; empty: nowhere."""
    position = getattr(text, "ansible_pos", None)
    if position is None and _ORIGIN is not None:
        origin = _ORIGIN.get_tag(text)
        position = origin and (origin.path, origin.line_num, origin.col_num)
    return ":".join(map(str, position)) if position and position[0] else ""


def _origin() -> Any:
    try:  # since ansible-core 2.19
        from ansible._internal._datatag._tags import Origin
    except ImportError:
        return None
    return Origin


_ORIGIN = _origin()


def _is_about_condition(values: Any) -> bool:
    """Whether a failure is that of a condition that could not be told."""
    message = str(values.get("msg") or "")
    return any(words in message for words in _OF_CONDITIONS)
