"""Tells pytest-carthage what a playbook does, one JSON object per line.

The descriptor to write to is in ``CARTHAGE_ANSIBLE_EVENTS``; without it the callback is silent.
What this process and those that it forks open for reading is appended to the file that
``CARTHAGE_ANSIBLE_READS`` names, each path ended by a zero byte.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from typing import Any

from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import connection_loader

DOCUMENTATION = """
name: carthage_events
type: notification
short_description: events of a playbook for pytest-carthage
description:
  - Writes one JSON object per line to the file descriptor in CARTHAGE_ANSIBLE_EVENTS.
author: pytest-carthage
"""

#: of a message, so that a module that prints a megabyte does not end in an error message
_MOST_LINES = 40
_MOST_CHARACTERS = 8000
#: of a diff
_MOST_OF_DIFF = 32_000


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Writes plays, tasks, results and statistics, as they come."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "carthage_events"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        number = os.environ.get("CARTHAGE_ANSIBLE_EVENTS", "")
        self._fd = int(number) if number.isdecimal() else -1
        self._play = ""
        self._started: dict[tuple[str, str], float] = {}
        if reads := os.environ.pop("CARTHAGE_ANSIBLE_READS", ""):
            _record_reads(reads)

    def _write(self, event: str, **fields: object) -> None:
        if self._fd < 0:
            return
        line = json.dumps({"event": event, **fields}, default=str) + "\n"
        view = memoryview(line.encode("utf-8", "surrogateescape"))
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            self._fd = -1

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Load the connection before workers are forked, each of which would do it for itself."""
        with contextlib.suppress(Exception):  # a task that needs it will tell
            plugin = connection_loader.get("carthage", class_only=True)
            sys.modules[plugin.__module__].preload()

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Tell which play begins."""
        self._play = play.get_name().strip()
        self._write("play", play=self._play)

    def v2_playbook_on_no_hosts_matched(self) -> None:
        """Tell that no machine is meant by the play."""
        self._write("unmatched", play=self._play)

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Tell which task begins."""
        self._write("task", task=task.get_name().strip(), path=task.get_path() or "")

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """Tell which handler begins."""
        self._write("task", task=task.get_name().strip(), path=task.get_path() or "")

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """Remember when a host began; tell it."""
        self._started[host.get_name(), task._uuid] = time.monotonic()
        self._write("started", host=host.get_name(), task=task.get_name().strip())

    def v2_runner_on_ok(self, result: Any) -> None:
        """Tell of a task that is done."""
        values = _values(result)
        status = "changed" if values.get("changed") else "ok"
        self._result(result, status, _text(values.get("msg")))

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Tell of a failure."""
        self._result(result, "ignored" if ignore_errors else "failed", _failure(_values(result)))

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Tell of a machine that does not answer."""
        ignored = bool(getattr(_task(result), "ignore_unreachable", False))
        message = _failure(_values(result))
        self._result(result, "ignored" if ignored else "unreachable", message)

    def v2_runner_on_skipped(self, result: Any) -> None:
        """Tell that a task did not apply."""
        values = _values(result)
        self._result(result, "skipped", _text(values.get("skip_reason") or values.get("msg")))

    def _result(self, result: Any, status: str, message: str) -> None:
        host, task = _host(result), _task(result)
        began = self._started.pop((host.get_name(), task._uuid), None)
        # as in the banner: with its role, and with what its variables stand for
        name = getattr(result, "task_name", None) or task.name or task.get_name()
        role = getattr(task, "_role", None)
        # newer versions of Ansible say the role in task_name already
        if role is not None and not name.startswith(f"{role.get_name()} : "):
            name = f"{role.get_name()} : {name}"
        self._write(
            "result",
            play=self._play,
            task=name.strip(),
            path=task.get_path() or "",
            host=host.get_name(),
            status=status,
            message=message,
            duration_s=0.0 if began is None else time.monotonic() - began,
            diff=self._diff(task, _values(result)),
            checked=_is_checked(task, _values(result), status),
        )

    def _diff(self, task: Any, values: Any) -> str:
        """What changed, where it is to be told; of a loop, of each item."""
        if not getattr(task, "diff", False):
            return ""
        text = "".join(
            self._get_diff(part["diff"])
            for part in _parts(values)
            if part.get("changed") and part.get("diff")
        ).strip("\n")
        if len(text) > _MOST_OF_DIFF:
            more = len(text) - _MOST_OF_DIFF
            text = f"{text[:_MOST_OF_DIFF]}\n... ({more} characters more)"
        return text

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Tell the sums per machine."""
        self._write("stats", hosts={host: stats.summarize(host) for host in stats.processed})


def _record_reads(file: str) -> None:
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    recorded: set[str] = set()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open":
            return
        path, _, flags = arguments
        if not isinstance(path, str | bytes | os.PathLike):
            return
        if (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_DIRECTORY):
            return
        full = os.path.abspath(os.fsdecode(path))  # noqa: PTH100  links are not followed
        if full not in recorded:
            recorded.add(full)
            with contextlib.suppress(OSError):  # an action may have closed all descriptors
                os.write(fd, os.fsencode(full) + b"\0")

    sys.addaudithook(hook)


# ansible-core 2.19 renamed the attributes that had an underscore


def _host(result: Any) -> Any:
    return result.host if hasattr(result, "host") else result._host


def _task(result: Any) -> Any:
    return result.task if hasattr(result, "task") else result._task


def _values(result: Any) -> Any:
    return result.result if hasattr(result, "result") else result._result


def _parts(values: Any) -> list[Any]:
    """The results of a loop's items; otherwise the result itself."""
    items = values.get("results")
    if isinstance(items, list) and items and all(isinstance(item, dict) for item in items):
        return items
    return [values]


def _is_checked(task: Any, values: Any, status: str) -> bool:
    """Whether a task is not one of which check mode cannot tell what it would do.

    Modules tell that they have done nothing by being skipped, though no condition was false.
    """
    if not task.check_mode:
        return True
    return not any(
        (part.get("skipped") or (part is values and status == "skipped"))
        and "false_condition" not in part
        and "skipped_reason" not in part
        for part in _parts(values)
    )


def _text(value: object) -> str:
    """Some lines of text from whatever a module returned."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    lines = text.strip().splitlines()
    if len(lines) > _MOST_LINES:
        lines = [f"... ({len(lines) - _MOST_LINES} lines before)", *lines[-_MOST_LINES:]]
    text = "\n".join(lines)
    return text if len(text) <= _MOST_CHARACTERS else "... " + text[-_MOST_CHARACTERS:]


def _failure(values: Any) -> str:
    """What a module said about its failure: its message, then its last lines."""
    results = values.get("results")
    if isinstance(results, list) and results:
        parts = []
        for item in results:
            # the newest Ansible says by its exception alone that an item failed
            if isinstance(item, dict) and (
                item.get("failed", "exception" in item) or item.get("unreachable")
            ):
                label = item.get("_ansible_item_label", item.get("item"))
                parts.append(f"(item={_text(label)}) {_failure({**item, 'results': None})}")
        if parts:
            return _text("\n".join(parts))
    parts = [_text(values.get("msg") or values.get("reason"))]
    for name in ("stderr", "module_stderr", "stdout", "module_stdout"):
        text = _text(values.get(name))
        if text and text not in parts[0]:
            parts.append(f"{name}: {text}")
    # facts are gathered by several modules
    for name, inner in (values.get("failed_modules") or {}).items():
        parts.append(f"{name}: {_failure(inner)}")
    return "\n".join(part for part in parts if part) or "no message"
