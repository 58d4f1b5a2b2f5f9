"""Ansible stages: the real ``ansible-playbook``, run from the host against a live layout.

Nothing of Ansible is imported here: it may live in another environment, or be absent. Its
plugins in ``ansible_plugins/`` are loaded by ``ansible-playbook`` itself.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from pytest_carthage.errors import (
    AnsibleError,
    TimeLimitError,
)
from pytest_carthage.events import Event, Kind, Reporter
from pytest_carthage.fabric.wire import client
from pytest_carthage.handles.playbook import HostResult, PlaybookResult, Status, TaskResult
from pytest_carthage.work.ansible.installation import find_config, find_program, make_env
from pytest_carthage.work.ansible.inventory import check_limit, inventory

if TYPE_CHECKING:
    from pytest_carthage.planning.plan import Plan

__all__ = ["HostResult", "PlaybookResult", "Status", "TaskResult", "run_playbook"]

_PLUGINS = Path(__file__).resolve().parent / "plugins"
_GUARD = Path(__file__).resolve().parent / "guard.py"
#: where Pythons are in machines, in the order in which they are preferred
_INTERPRETERS = ("/usr/bin/python3", "/usr/local/bin/python3")
_MOST_FORKS = 16


class Environment(Protocol):
    """What is needed of a live layout."""

    @property
    def name(self) -> str:
        """The environment's name."""
        ...

    @property
    def folder(self) -> Path:
        """Its private folder."""
        ...

    @property
    def socket(self) -> Path:
        """UNIX socket of its fabric."""
        ...

    @property
    def plan(self) -> Plan:
        """What it was built from, machines that were added later included."""
        ...

    @property
    def reporter(self) -> Reporter:
        """Who is told of progress."""
        ...


async def run_playbook(
    environment: Environment,
    playbook: str | os.PathLike[str],
    *,
    extra_vars: Mapping[str, object] | None = None,
    limit: str | Sequence[str] | None = None,
    tags: str | Sequence[str] | None = None,
    check: bool = False,
    timeout_s: float = 3600.0,
    inventory_extra: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
) -> PlaybookResult:
    """Run a playbook of a production tree against the machines of a live layout.

    The tree's ``ansible.cfg`` (beside the playbook or above it), roles, ``group_vars``
    and ``host_vars`` count as they do in production. How machines are reached, and what
    the layout declares as their ``variables``, wins over the tree. Plays do not leave the
    layout: a host that is no machine of it is unreachable.

    :param extra_vars: variables above all others; what JSON can hold.
    :param limit: machines and groups, in Ansible's pattern language or as a list.
    :param check: predict changes only (``--check``).
    :param timeout_s: seconds that the playbook may take.
    :param inventory_extra: further inventory sources, as in a production inventory whose
        ``group_vars`` are wanted; their hosts that are no machines of the layout are left out.
    :raises AnsibleError: the playbook is missing, wrong, matches no machine, or a task failed.
    :raises TimeLimitError: it did not end in time; every process of it was killed.
    :raises HostError: there is no ``ansible-playbook`` on this host.
    """
    path = _playbook(Path(playbook), environment.plan)
    patterns = _joined(limit)
    if patterns is not None and inventory_extra is None:
        check_limit(environment.plan, patterns)
    program = find_program()
    work = environment.folder / "ansible"
    work.mkdir(mode=0o700, exist_ok=True)
    log = _new_log(environment.folder / "logs", path)
    sources = _sources(inventory_extra)
    command = [program, str(path)]
    for source in sources:
        command += ["--inventory", str(source)]
    inventory_file = work / f"{log.stem}.inventory.json"
    # the last one wins
    command += ["--inventory", str(inventory_file)]
    if sources:
        # a production inventory names the real machines
        command += ["--limit", _within(environment.plan, patterns)]
    elif patterns is not None:
        command += ["--limit", patterns]
    if tags is not None and (joined := _joined(tags)):
        command += ["--tags", joined]
    if check:
        command.append("--check")
    if extra_vars:
        extra_file = work / f"{log.stem}.extra.json"
        _write_json(extra_file, extra_vars, "extra_vars")
        command += ["--extra-vars", f"@{extra_file}"]
    _write_json(
        inventory_file,
        inventory(
            environment.plan,
            socket=environment.socket,
            interpreters=await asyncio.to_thread(
                _interpreters, environment.socket, environment.plan
            ),
        ),
        "variables of the layout's machines",
    )
    config, folder = find_config(path)
    run = _Run(environment=environment, playbook=path, log=log)
    run.tell("start")
    try:
        async with asyncio.timeout(timeout_s):
            status = await run.execute(
                command, env=make_env(config, work, len(environment.plan.machines)), cwd=folder
            )
    except TimeoutError as error:
        message = f"{run.subject}: not done after {timeout_s:g} s; {run.last_seen()}; log: {log}"
        run.tell("failed", f"not done after {timeout_s:g} s")
        raise TimeLimitError(message) from error
    except BaseException:
        run.tell("failed", "cancelled")
        raise
    result = run.result()
    if status != 0 or not result.ok or not result.hosts:
        run.tell("failed", run.cause(result) or f"exit status {status}")
        raise AnsibleError(run.failure(result, status), result)
    run.tell("done", _sums(result))
    return result


class _Run:
    """One run of ansible-playbook, and what was heard of it."""

    def __init__(self, *, environment: Environment, playbook: Path, log: Path) -> None:
        self._environment = environment
        self._playbook = playbook
        self._log = log
        self._reads = environment.folder / "ansible" / f"{log.stem}.reads"
        self._began = time.monotonic()
        self.subject = f"ansible {playbook.name}"
        self._task = ""
        self._running: dict[str, str] = {}
        self._tasks: list[TaskResult] = []
        self._unmatched: list[str] = []
        self._hosts: dict[str, HostResult] = {}

    def tell(self, kind: Kind, text: str = "") -> None:
        """Tell the reporter."""
        closing = kind in ("done", "failed")
        self._environment.reporter.event(
            Event(
                at_s=time.time(),
                environment=self._environment.name,
                subject=self.subject,
                kind=kind,
                text=text,
                duration_s=time.monotonic() - self._began if closing else None,
            )
        )

    async def execute(self, command: list[str], *, env: dict[str, str], cwd: Path) -> int:
        """Run the program to its end, and hear its events; cancelled, kill all of it."""
        read, write = os.pipe()
        try:
            env = {
                **env,
                "CARTHAGE_ANSIBLE_EVENTS": str(write),
                "CARTHAGE_ANSIBLE_READS": str(self._reads),
            }
            with self._log.open("wb") as log:
                guard = [sys.executable, "-I", "-S", str(_GUARD)]
                # its standard input is what keeps it alive: closed, or lost with this
                # process, the guard ends ansible-playbook and whatever that started
                process = await asyncio.create_subprocess_exec(
                    *guard,
                    *command,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env=env,
                    cwd=cwd,
                    pass_fds=(write,),
                    start_new_session=True,
                )
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
        assert process.stdin is not None
        async with _reader(read) as events:
            hearing = asyncio.create_task(self._hear(events))
            try:
                status = await process.wait()
                # a process that the playbook left running may hold the pipe open
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await asyncio.shield(hearing)
            finally:
                process.stdin.close()
                hearing.cancel()
                if process.returncode is None:
                    await asyncio.shield(process.wait())
                await asyncio.gather(hearing, return_exceptions=True)
        return status

    async def _hear(self, events: asyncio.StreamReader) -> None:
        while line := await events.readline():
            message = json.loads(line)
            getattr(self, f"_on_{message.pop('event')}")(**message)

    def _on_play(self, play: str) -> None:
        self._task = ""
        self.tell("note", f"play {play}")

    def _on_unmatched(self, play: str) -> None:
        self._unmatched.append(play)
        self.tell("note", f"play {play}: no machine matches")

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
        )
        self._tasks.append(result)
        if status not in ("ok", "skipped"):
            first = message.partition("\n")[0]
            text = f"{task}: {status} {host}"
            if status != "changed" and first:
                text += f": {first}"
            self.tell("note", text)

    def _on_stats(self, hosts: dict[str, dict[str, int]]) -> None:
        for name, sums in hosts.items():
            self._hosts[name] = HostResult(
                ok=sums.get("ok", 0),
                changed=sums.get("changed", 0),
                failed=sums.get("failures", 0),
                unreachable=sums.get("unreachable", 0),
                skipped=sums.get("skipped", 0),
                rescued=sums.get("rescued", 0),
                ignored=sums.get("ignored", 0),
            )

    def result(self) -> PlaybookResult:
        """What was heard."""
        return PlaybookResult(
            playbook=self._playbook,
            hosts=dict(self._hosts),
            tasks=tuple(self._tasks),
            unmatched=tuple(self._unmatched),
            log=self._log,
            duration_s=time.monotonic() - self._began,
            reads=self._reads_told(),
        )

    def _reads_told(self) -> frozenset[Path]:
        try:
            data = self._reads.read_bytes()
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
        return f"no task had begun; Ansible's last lines:\n{_indented(_tail(self._log, 10))}"

    def cause(self, result: PlaybookResult) -> str:
        """The first cause in a few words; empty when no task is to blame."""
        causes = self._causes(result)
        return f"task {causes[0].name!r} {_verb(causes[0])} on {causes[0].host!r}" if causes else ""

    def failure(self, result: PlaybookResult, status: int) -> str:
        """The message about a failure: the first cause, then the others in one line each."""
        subject = (
            f"playbook {str(self._playbook)!r} on layout {self._environment.plan.layout!r} "
            f"({self._environment.name})"
        )
        causes = self._causes(result)
        if causes:
            first, *others = causes
            text = (
                f"{subject}: play {first.play!r}, "
                f"task {first.name!r} {_verb(first)} on {first.host!r}"
            )
            if first.path:
                text += f" ({first.path})"
            text += f":\n{_indented(first.message)}"
            if others:
                text += "\nit went wrong too on: " + ", ".join(
                    f"{one.host!r} (task {one.name!r} {_verb(one)})" for one in others
                )
            return f"{text}\nlog: {self._log}"
        if status == 0:
            plan = self._environment.plan
            groups = sorted({group for one in plan.machines.values() for group in one.groups})
            return (
                f"{subject}: no play matches a machine; plays: "
                f"{', '.join(map(repr, self._unmatched)) or 'none'}; machines: "
                f"{', '.join(plan.machines) or 'none'}; groups: {', '.join(groups) or 'none'}; "
                f"try: Machine(..., groups=[...]) with the group of the play; log: {self._log}"
            )
        return (
            f"{subject}: Ansible gave up with exit status {status}:\n"
            f"{_indented(_complaint(self._log))}\nlog: {self._log}"
        )

    def _causes(self, result: PlaybookResult) -> list[TaskResult]:
        """For each machine that failed in the end, its last failing task."""
        last: dict[str, TaskResult] = {}
        for task in result.tasks:
            if task.status in ("failed", "unreachable"):
                last.pop(task.host, None)
                last[task.host] = task
        if not result.hosts:
            return list(last.values())
        return [
            task
            for host, task in last.items()
            if (sums := result.hosts.get(host)) is None or sums.failed or sums.unreachable
        ]


def _verb(task: TaskResult) -> str:
    return "failed" if task.status == "failed" else "found no connection"


def _sums(result: PlaybookResult) -> str:
    sums = collections.Counter[str]()
    for host in result.hosts.values():
        sums.update({"changed": host.changed, "ok": host.ok - host.changed})
    return f"{sums['changed']} changed, {sums['ok']} ok"


@asynccontextmanager
async def _reader(fd: int) -> AsyncIterator[asyncio.StreamReader]:
    """A stream of lines from a pipe; closes it."""
    reader = asyncio.StreamReader(limit=1 << 20)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb", buffering=0)
    )
    try:
        yield reader
    finally:
        transport.close()


def _playbook(path: Path, plan: Plan) -> Path:
    full = path.absolute()
    if full.is_file():
        return full
    folder = full.parent
    if full.is_dir():
        fault, folder = "it is a folder", full
    elif folder.is_dir():
        fault = "there is no such file"
    else:
        fault = f"there is no folder {str(folder)!r}"
    there = sorted(path.name for path in folder.glob("*.y*ml")) if folder.is_dir() else []
    raise AnsibleError(
        f"playbook {str(path)!r} for layout {plan.layout!r}: {fault} (looked for {str(full)!r}); "
        + (
            f"playbooks there: {', '.join(there)}"
            if there
            else "try: a path from the folder in which pytest was started, or an absolute one"
        )
    )


def _joined(patterns: str | Sequence[str] | None) -> str | None:
    if patterns is None or isinstance(patterns, str):
        return patterns
    return ",".join(patterns)


def _sources(extra: object) -> list[Path]:
    """Further inventory sources.

    :raises AnsibleError: one is missing.
    """
    if extra is None:
        return []
    many = [extra] if isinstance(extra, str | os.PathLike) else cast("Iterable[str]", extra)
    sources = [Path(one).absolute() for one in many]
    for source in sources:
        if not source.exists():
            raise AnsibleError(f"inventory_extra: there is no {str(source)!r}")
    return sources


def _within(plan: Plan, patterns: str | None) -> str:
    """A limit that holds only machines of the layout (and this computer itself)."""
    machines = [*plan.machines, "localhost"]
    if patterns is None:
        return ",".join(machines)
    # Ansible intersects what is named first with each "&" part; a part is one pattern
    return f"{patterns},&~^({'|'.join(re.escape(name) for name in machines)})$"


def _write_json(file: Path, value: object, subject: str) -> None:
    """Write for the owner's eyes only: variables hold passwords.

    :raises AnsibleError: JSON cannot hold the value.
    """
    try:
        text = json.dumps(value, indent=2, default=_plain)
    except (TypeError, ValueError) as error:
        raise AnsibleError(f"{subject}: Ansible cannot be given this: {error}") from error
    with open(file, "w", encoding="utf-8", opener=lambda p, f: os.open(p, f, 0o600)) as out:
        out.write(text)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if type(value).__module__ == "ipaddress":
        return str(value)
    raise TypeError(f"{value!r} is a {type(value).__name__}, which JSON cannot hold")


def _new_log(folder: Path, playbook: Path) -> Path:
    """The path of a log that no earlier run of the same playbook has used."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        suffix = "" if number == 1 else f"-{number}"
        log = folder / f"ansible-{playbook.stem}{suffix}.log"
        try:
            log.touch(mode=0o600, exist_ok=False)
        except FileExistsError:
            continue
        return log
    raise AssertionError


def _interpreters(socket: Path, plan: Plan) -> dict[str, str]:
    """Machine name to the Python in it; a machine without one is left out.

    It saves Ansible a discovery per machine. A machine that does not answer is left to
    Ansible too, which will tell.
    """
    interpreters = {}
    for name in plan.machines:
        with suppress(OSError, client.Refused), client.connect(str(socket), name) as agent:
            for path in _INTERPRETERS:
                with suppress(client.Refused):
                    agent.request("stat", path=path)
                    interpreters[name] = path
                    break
    return interpreters


def _relative(path: str, folder: Path) -> str:
    """A task's ``file:line``, as short as can be."""
    return path.removeprefix(f"{folder}/")


def _tail(log: Path, lines: int) -> str:
    text = log.read_text(encoding="utf-8", errors="replace").strip()
    return "\n".join(text.splitlines()[-lines:])


def _complaint(log: Path) -> str:
    """What Ansible printed from its first error on; its last lines when there is none."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    for number, line in enumerate(lines):
        if line.startswith(("[ERROR]", "ERROR!", "ERROR:", "usage:")):
            return "\n".join(lines[number : number + 30])
    return "\n".join(lines[-15:]) or "it printed nothing"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
