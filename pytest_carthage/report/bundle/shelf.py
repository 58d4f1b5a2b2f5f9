"""Where the bundles of a session stand: a folder for each test that failed."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_carthage.clock import unix_s
from pytest_carthage.events import Recorder
from pytest_carthage.report.bundle.environment import write_environment
from pytest_carthage.report.bundle.observable import Observable
from pytest_carthage.report.bundle.pages import reason, write_text
from pytest_carthage.report.bundle.summary import summary_text
from pytest_carthage.report.bundle.texts import failed_lines, summary_line
from pytest_carthage.report.bundle.whereabouts import Whereabouts
from pytest_carthage.report.bundle.whole import WholeLogs
from pytest_carthage.report.sentences import sentence
from pytest_carthage.report.times import clock, iso

__all__ = ["FORMAT", "Failure", "Shelf", "folder_name", "prune"]

#: version of ``summary.json``
FORMAT = 1

_LONGEST_NAME = 120
_ODD = re.compile(r"[^A-Za-z0-9_.\-\[\]]+")


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
    #: name of an environment to what :func:`~pytest_carthage.channels.log.size_of_logs` gave when
    #: the test began; none: it was not there
    logs: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    #: the command that runs it again
    again: str = ""
    #: names of environments that stay, whatever comes
    stays: Collection[str] = ()
    #: what is to be said of what stays, and of what does not
    kept: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What was collected of a test."""

    folder: Path
    #: what went on during the test that may be why it failed
    meanwhile: Sequence[str]
    #: makes true what a message names of environments that go
    whereabouts: Whereabouts


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
            if unix_s() - changed_s > younger_than_s:
                shutil.rmtree(path, ignore_errors=True)


class Shelf:
    """Where the bundles of a session stand."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._cleared: set[Path] = set()
        self._whole = WholeLogs(base)
        #: environments that are gone, as they were before: name to the folder that has what there
        #: was, that of their logs, and their part of a summary
        self._former: dict[str, tuple[Path, Path, dict[str, Any]]] = {}

    def folder(self, test: str) -> Path:
        """Return a test's folder, made anew once per session.

        :raises OSError: it cannot be made.
        """
        folder = self._base / folder_name(test)
        if folder not in self._cleared:
            shutil.rmtree(folder, ignore_errors=True)
            self._cleared.add(folder)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        return folder

    async def foresee(self, test: str, environment: Observable, *, since_s: float) -> None:
        """Look at an environment that is about to be destroyed, for a bundle to come."""
        folder = self.folder(test)
        part = await write_environment(environment, folder, since_s=since_s, whole=self._whole)
        self._former[environment.name] = folder, environment.logs, part

    def former(self, name: str) -> Path | None:
        """Where what there was of an environment is that :meth:`foresee` has looked at."""
        return self._former[name][0] / name if name in self._former else None

    def whereabouts(self, name: str, *, otherwise: str) -> Whereabouts:
        """What makes true what a message names of such an environment.

        :param otherwise: the command that would have had it stay.
        """
        folder, logs, part = self._former[name]
        whereabouts = Whereabouts(otherwise=otherwise)
        whereabouts.add(name, logs, folder, part)
        return whereabouts

    async def collect(
        self,
        failure: Failure,
        environments: Sequence[Observable],
        recorder: Recorder,
        *,
        former: Sequence[str] = (),
        timeout_s: float = 30.0,
    ) -> Bundle:
        """Write a failed test's bundle.

        :param former: names of environments that :meth:`foresee` has looked at.
        :raises OSError: the folder cannot be written.
        """
        folder = self.folder(failure.test)
        known = {name: self._former[name] for name in former if name in self._former}
        logs = {name: path for name, (_, path, _) in known.items()}
        logs |= {environment.name: environment.logs for environment in environments}
        parts = {name: part for name, (_, _, part) in known.items()}
        parts |= await self._write_environments(failure, environments, folder, timeout_s)
        whereabouts = Whereabouts()
        for name, part in parts.items():
            if name not in failure.stays:
                whereabouts.add(name, logs[name], folder, part)
        error = whereabouts(failure.error)
        write_text(folder / "error.txt", error + "\n")
        events = [event for event in list(recorder.events) if event.environment in parts]
        write_text(
            folder / "events.txt",
            recorder.events.remark("events")
            + "".join(f"{clock(event.at_s)}  {sentence(event)}\n" for event in events),
        )
        summary: dict[str, Any] = {
            "format": FORMAT,
            "test": failure.test,
            "phase": failure.phase,
            "run": failure.run,
            "began": iso(failure.began_s),
            "ended": iso(failure.ended_s),
            "error": summary_line(error),
            "failed": failed_lines(error),
            "meanwhile": [line for part in parts.values() for line in part.get("meanwhile", ())],
            "again": failure.again,
            "kept": list(failure.kept),
            "environments": parts,
        }
        write_text(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
        write_text(folder / "summary.txt", summary_text(summary))
        return Bundle(folder=folder, meanwhile=tuple(summary["meanwhile"]), whereabouts=whereabouts)

    async def _write_environments(
        self, failure: Failure, environments: Sequence[Observable], folder: Path, timeout_s: float
    ) -> dict[str, dict[str, Any]]:
        """Write what there is of each environment; returns their parts of the summary."""
        tasks = {
            environment.name: asyncio.create_task(
                write_environment(
                    environment,
                    folder,
                    since_s=failure.began_s,
                    until_s=failure.ended_s,
                    since=failure.logs.get(environment.name, {}),
                    whole=self._whole,
                )
            )
            for environment in environments
        }
        if tasks:
            await asyncio.wait(tasks.values(), timeout=timeout_s)
        parts: dict[str, dict[str, Any]] = {}
        for name, task in tasks.items():
            if not task.done():
                task.cancel()
                parts[name] = {"missing": f"not all could be collected in {timeout_s:g} s"}
            elif (error := task.exception()) is not None:
                parts[name] = {"missing": reason(error)}
            else:
                parts[name] = task.result()
        return parts
