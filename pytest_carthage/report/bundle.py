"""What there is to see when a test fails, in one folder per test.

::

    FOLDER/<test>/
        summary.json            test, phase, times, environments, machines, files, what is missing
        error.txt               what pytest shows
        events.txt              how the environments came to be
        <environment>/
            graph.txt  graph.mmd  graph.svg
            gates.json          where there were gates: who, to where, when, what passed
            faults.json         faults that were in force during the test, with their times
            packets.pcapng      what went over its networks (--carthage-pcap)
            <machine>/
                log.txt         the main process's output
                journal.txt     where systemd is the init
                addresses.txt  routes.txt  listening.txt  processes.txt  observed.json
                commands.txt  commands.json     what the test ran here, with output and times

Collecting never raises for one machine's sake: what could not be had is named in the summary.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pytest_carthage.access.execution import Interrupted, execute
from pytest_carthage.errors import CarthageError
from pytest_carthage.report import graph
from pytest_carthage.report.events import Recorder
from pytest_carthage.report.progress import sentence

if TYPE_CHECKING:
    from pytest_carthage.access.command import Result
    from pytest_carthage.access.disturbance import AsyncDisturbance
    from pytest_carthage.access.gate import AsyncGate
    from pytest_carthage.access.machine import AsyncMachine
    from pytest_carthage.access.recording import Recording
    from pytest_carthage.planning.plan import Plan

__all__ = ["FORMAT", "Failure", "Shelf", "folder_name", "prune"]

#: version of ``summary.json``
FORMAT = 1

_LONGEST_NAME = 120
_ODD = re.compile(r"[^A-Za-z0-9_.\-\[\]]+")
_JOURNAL_S = 10.0
_JOURNAL = ["journalctl", "--no-pager", "--output=short-iso-precise", "--boot", "--lines=5000"]
_TABLES = ("addresses", "routes", "listening", "processes")


class Observable(Protocol):
    """What is needed of a live layout to look at it."""

    @property
    def name(self) -> str: ...

    @property
    def plan(self) -> Plan: ...

    @property
    def logs(self) -> Path: ...

    @property
    def gates(self) -> Sequence[AsyncGate]: ...

    @property
    def recording(self) -> Recording | None: ...

    @property
    def disturbances(self) -> Sequence[AsyncDisturbance]: ...

    def handles(self) -> Sequence[AsyncMachine]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A test that failed."""

    #: pytest's node id
    test: str
    #: setup or call
    phase: str
    #: UNIX times at which the test began (its setup) and failed
    began_s: float
    ended_s: float
    #: what pytest shows
    error: str
    run: str


@dataclass(slots=True, kw_only=True)
class _Seen:
    """What was written for one machine or environment, and what could not be."""

    files: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)


def folder_name(test: str) -> str:
    """Turn a node id into the name of a folder; different tests have different ones."""
    path, _, rest = test.partition("::")
    plain = f"{path.replace('/', '.')}.{rest.replace('::', '.')}".strip(".")
    name = _ODD.sub("-", plain)[:_LONGEST_NAME]
    if name != plain:
        name += f"-{hashlib.sha256(test.encode()).hexdigest()[:8]}"
    return name


def prune(base: Path, *, keep: int, younger_than_s: float = 3600.0) -> None:
    """Remove all but the newest folders of former runs; young ones may be in use and stay."""
    with contextlib.suppress(OSError):
        folders = [(path.stat().st_mtime, path) for path in base.iterdir() if path.is_dir()]
        for changed_s, path in sorted(folders, reverse=True)[keep:]:
            if time.time() - changed_s > younger_than_s:
                shutil.rmtree(path, ignore_errors=True)


class Shelf:
    """Where the bundles of a session stand."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._cleared: set[Path] = set()
        #: environments that are gone, as they were seen before: name to summary
        self._former: dict[str, dict[str, Any]] = {}

    def folder(self, test: str) -> Path:
        """Return a test's folder, made anew once per session.

        :raises OSError: it cannot be made.
        """
        folder = self._base / folder_name(test)
        if folder not in self._cleared:
            shutil.rmtree(folder, ignore_errors=True)
            self._cleared.add(folder)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    async def foresee(self, test: str, environment: Observable, *, since_s: float) -> None:
        """Look at an environment that is about to be destroyed, for a bundle to come."""
        folder = self.folder(test)
        self._former[environment.name] = await _observe(environment, folder, since_s=since_s)

    async def collect(
        self,
        failure: Failure,
        environments: Sequence[Observable],
        recorder: Recorder,
        *,
        former: Sequence[str] = (),
        timeout_s: float = 30.0,
    ) -> Path:
        """Write a failed test's bundle; returns its folder.

        :param former: names of environments that :meth:`foresee` has seen.
        :raises OSError: the folder cannot be written.
        """
        folder = self.folder(failure.test)
        seen = {name: self._former[name] for name in former if name in self._former}
        tasks = {
            environment.name: asyncio.create_task(
                _observe(environment, folder, since_s=failure.began_s, until_s=failure.ended_s)
            )
            for environment in environments
        }
        if tasks:
            await asyncio.wait(tasks.values(), timeout=timeout_s)
        for name, task in tasks.items():
            if not task.done():
                task.cancel()
                seen[name] = {"missing": f"not all could be collected in {timeout_s:g} s"}
            elif (error := task.exception()) is not None:
                seen[name] = {"missing": _reason(error)}
            else:
                seen[name] = task.result()
        (folder / "error.txt").write_text(failure.error + "\n")
        events = [event for event in list(recorder.events) if event.environment in seen]
        (folder / "events.txt").write_text(
            "".join(f"{_clock(event.at_s)}  {sentence(event)}\n" for event in events)
        )
        summary = {
            "format": FORMAT,
            "test": failure.test,
            "phase": failure.phase,
            "run": failure.run,
            "began": _iso(failure.began_s),
            "ended": _iso(failure.ended_s),
            "error": _last_line(failure.error),
            "environments": seen,
        }
        (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
        return folder


async def _observe(
    environment: Observable, folder: Path, *, since_s: float, until_s: float | None = None
) -> dict[str, Any]:
    """Write everything about one environment; returns its part of the summary."""
    target = folder / environment.name
    target.mkdir(parents=True, exist_ok=True)
    plan = environment.plan
    seen = _Seen()
    for name, draw in (
        ("graph.txt", graph.text),
        ("graph.mmd", graph.mermaid),
        ("graph.svg", graph.svg),
    ):
        _write(seen, target / name, partial(draw, plan))
    for log in sorted(environment.logs.glob("ansible-*.log")):
        _write(seen, target / log.name, partial(log.read_text, errors="replace"))
    packets: dict[str, Any] = {}
    if environment.recording is not None:
        packets = await _write_packets(
            seen, environment.recording, target, since_s=since_s, until_s=until_s
        )
    faults = [
        fault.record()
        for fault in environment.disturbances
        if fault.healed_s is None or fault.healed_s >= since_s
    ]
    if faults:
        _write(seen, target / "faults.json", lambda: json.dumps(faults, indent=1) + "\n")
    gates = [gate.record.as_json() for gate in environment.gates]
    if gates:
        _write(seen, target / "gates.json", lambda: json.dumps(gates, indent=1) + "\n")
    live = {machine.name: machine for machine in environment.handles()}
    machines = await asyncio.gather(
        *(
            _observe_machine(
                live.get(name),
                target / name,
                environment.logs / f"{name}.log",
                has_journal=planned.init == "systemd",
                since_s=since_s,
            )
            for name, planned in plan.machines.items()
        )
    )
    return {
        "layout": plan.layout,
        "files": seen.files,
        "missing": seen.missing,
        **({"packets": packets} if packets else {}),
        "machines": {
            name: {
                "target": planned.target,
                "hostname": planned.hostname,
                "live": name in live,
                "files": machine.files,
                "missing": machine.missing,
            }
            for (name, planned), machine in zip(plan.machines.items(), machines, strict=True)
        },
    }


async def _write_packets(
    seen: _Seen, recording: Recording, folder: Path, *, since_s: float, until_s: float | None
) -> dict[str, Any]:
    from pytest_carthage.access.recording import FILE

    try:
        slices = await recording.write(folder / FILE, since_s=since_s, until_s=until_s)
    except Exception as error:  # a full disk must not cost all the rest
        seen.missing[FILE] = _reason(error)
        return {}
    seen.files.append(FILE)
    return {
        one.network: {"packets": one.packets, **({"lost": one.lost} if one.lost else {})}
        for one in slices
    }


async def _observe_machine(
    machine: AsyncMachine | None,
    folder: Path,
    log: Path,
    *,
    has_journal: bool,
    since_s: float,
) -> _Seen:
    seen = _Seen()
    if machine is None:  # it was never ready: its log is all that there is
        _write(seen, folder / "log.txt", lambda: log.read_text(errors="replace"))
        return seen
    try:
        text = await machine.logs()
        _write(seen, folder / "log.txt", lambda: text)
    except (CarthageError, OSError) as error:
        seen.missing["log.txt"] = _reason(error)
    if has_journal:
        await _write_journal(seen, machine, folder / "journal.txt")
    try:
        observed = await machine.observe()
    except (CarthageError, OSError) as error:
        seen.missing["observed.json"] = _reason(error)
    else:
        _write(seen, folder / "observed.json", lambda: json.dumps(observed, indent=1) + "\n")
        for name in _TABLES:
            _write(seen, folder / f"{name}.txt", partial(_table, observed.get(name, [])))
    commands = [result for result in machine.commands if result.started_at >= since_s]
    _write(seen, folder / "commands.txt", lambda: "\n".join(map(_transcript, commands)))
    _write(
        seen,
        folder / "commands.json",
        lambda: json.dumps([_command(result) for result in commands], indent=1) + "\n",
    )
    return seen


async def _write_journal(seen: _Seen, machine: AsyncMachine, path: Path) -> None:
    try:
        status, out, err = await execute(
            machine.channel,
            _JOURNAL,
            user=None,
            cwd=None,
            env={},
            input=None,
            timeout_s=_JOURNAL_S,
        )
    except (CarthageError, OSError, Interrupted) as error:
        seen.missing[path.name] = _reason(error)
        return
    if status:
        seen.missing[path.name] = err.decode(errors="replace").strip() or f"status {status}"
    _write(seen, path, lambda: out.decode(errors="replace"))


def _write(seen: _Seen, path: Path, make: Callable[[], str]) -> None:
    try:
        path.parent.mkdir(exist_ok=True)
        path.write_text(make(), errors="replace")
    except Exception as error:  # one drawing must not cost all the rest
        seen.missing[path.name] = _reason(error)
    else:
        seen.files.append(path.name)


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def _iso(at_s: float) -> str:
    return datetime.fromtimestamp(at_s).astimezone().isoformat(timespec="milliseconds")


def _clock(at_s: float) -> str:
    return datetime.fromtimestamp(at_s).strftime("%H:%M:%S.%f")[:-3]


def _last_line(text: str) -> str:
    """Find the line that says most: the last that pytest marks with E, or the first."""
    marked = [line[1:].strip() for line in text.splitlines() if line.startswith("E ")]
    return marked[0] if marked else text.strip().partition("\n")[0]


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of equal keys as text in columns, the keys above them."""
    if not rows:
        return "(none)\n"
    keys = list(rows[0])
    cells = [keys, *([_cell(row.get(key)) for key in keys] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(keys))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        + "\n"
        for row in cells
    )


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _transcript(result: Result) -> str:
    who = f" (as {result.user})" if result.user else ""
    head = (
        f"[{_clock(result.started_at)}] $ {result.text}{who}\n"
        f"status {result.status} after {result.duration_s:.3f} s\n"
    )
    parts = [head]
    for name, text in (("stdout", result.stdout), ("stderr", result.stderr)):
        if text:
            parts.append(f"--- {name}\n{text if text.endswith(chr(10)) else text + chr(10)}")
    return "".join(parts)


def _command(result: Result) -> dict[str, object]:
    return {
        "command": result.command if isinstance(result.command, str) else list(result.command),
        "user": result.user,
        "status": result.status,
        "stdout": result.stdout,
        "stderr": result.stderr,
        "started": _iso(result.started_at),
        "duration_s": round(result.duration_s, 6),
    }
