"""What is heard of a playbook while it runs, and what that comes to."""

from __future__ import annotations

import collections
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pytest_carthage import clock
from pytest_carthage.events import Event, Kind
from pytest_carthage.handles.playbook import HostResult, PlaybookResult, Status, TaskResult
from pytest_carthage.work.ansible.failure import last_lines

if TYPE_CHECKING:
    from pytest_carthage.work.ansible.environment import Environment

__all__ = ["Hearing", "sums"]


class Hearing:
    """The events of one run of ansible-playbook, told on and remembered."""

    def __init__(
        self, *, environment: Environment, playbook: Path, subject: str, log: Path
    ) -> None:
        self._environment = environment
        self._playbook = playbook
        self.log = log
        #: the callback writes there what was opened for reading
        self.reads = environment.folder / "ansible" / f"{log.stem}.reads"
        self._began = clock.monotonic_s()
        self.subject = subject
        self._task = ""
        self._running: dict[str, str] = {}
        self._tasks: list[TaskResult] = []
        self._unmatched: list[str] = []
        self._absent: list[str] = []
        self._hosts: dict[str, HostResult] = {}

    def tell(self, kind: Kind, text: str = "") -> None:
        """Tell the reporter."""
        closing = kind in ("done", "failed")
        self._environment.reporter.event(
            Event(
                at_s=clock.unix_s(),
                environment=self._environment.name,
                subject=self.subject,
                kind=kind,
                text=text,
                duration_s=clock.monotonic_s() - self._began if closing else None,
            )
        )

    def hear(self, line: bytes) -> None:
        """Take in one event: a line of the callback."""
        message = json.loads(line)
        getattr(self, f"_on_{message.pop('event')}")(**message)

    def _on_play(self, play: str) -> None:
        self._task = ""
        self.tell("note", f"play {play}")

    def _on_unmatched(self, play: str) -> None:
        self._unmatched.append(play)
        self.tell("note", f"play {play}: no machine matches")

    def _on_absent(self, hosts: list[str]) -> None:
        self._absent += [host for host in hosts if host not in self._absent]
        self.tell("note", f"no machines of the layout, left out: {', '.join(hosts)}")

    def _on_task(self, task: str, path: str) -> None:
        self._task = task
        self._running.clear()
        self.tell("note", task)

    def _on_started(self, host: str, task: str) -> None:
        self._running[host] = task

    def _on_result(
        self,
        *,
        play: str,
        task: str,
        path: str,
        host: str,
        status: str,
        message: str,
        duration_s: float,
        diff: str,
        checked: bool,
    ) -> None:
        self._running.pop(host, None)
        result = TaskResult(
            play=play,
            name=task,
            host=host,
            status=cast("Status", status),
            message=message,
            duration_s=duration_s,
            path=_relative(path, self._playbook.parent),
            diff=diff,
            checked=checked,
        )
        self._tasks.append(result)
        if status not in ("ok", "skipped"):
            first = message.partition("\n")[0]
            text = f"{task}: {status} {host}"
            if status != "changed" and first:
                text += f": {first}"
            self.tell("note", text)

    def _on_stats(self, hosts: dict[str, dict[str, int]]) -> None:
        for name, numbers in hosts.items():
            self._hosts[name] = HostResult(
                ok=numbers.get("ok", 0),
                changed=numbers.get("changed", 0),
                failed=numbers.get("failures", 0),
                unreachable=numbers.get("unreachable", 0),
                skipped=numbers.get("skipped", 0),
                rescued=numbers.get("rescued", 0),
                ignored=numbers.get("ignored", 0),
            )

    def result(self) -> PlaybookResult:
        """What was heard."""
        return PlaybookResult(
            playbook=self._playbook,
            hosts=dict(self._hosts),
            tasks=tuple(self._tasks),
            unmatched=tuple(self._unmatched),
            absent=tuple(self._absent),
            log=self.log,
            duration_s=clock.monotonic_s() - self._began,
            reads=self._reads_told(),
        )

    def _reads_told(self) -> frozenset[Path]:
        try:
            data = self.reads.read_bytes()
        except FileNotFoundError:  # it ended before the first play
            return frozenset()
        return frozenset(Path(os.fsdecode(path)) for path in data.split(b"\0") if path)

    def last_seen(self) -> str:
        """What was going on, for the message about a time limit."""
        if self._running:
            at = ", ".join(f"{task!r} on {host!r}" for host, task in self._running.items())
            return f"it was at task {at}"
        if self._task:
            return f"it was at task {self._task!r}"
        return f"no task had begun; Ansible's last lines:\n{last_lines(self.log)}"


def sums(result: PlaybookResult) -> str:
    """How much changed, in a few words."""
    numbers = collections.Counter[str]()
    for host in result.hosts.values():
        numbers.update({"changed": host.changed, "ok": host.ok - host.changed})
    return f"{numbers['changed']} changed, {numbers['ok']} ok"


def _relative(path: str, folder: Path) -> str:
    """A task's ``file:line``, as short as can be."""
    return path.removeprefix(f"{folder}/")
