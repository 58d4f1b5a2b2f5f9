"""What a bundle has of one machine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.channels.agent import Interrupted, execute
from pytest_carthage.channels.log import Log
from pytest_carthage.errors import CarthageError
from pytest_carthage.handles.encoding import printable
from pytest_carthage.report.bundle.pages import Pages
from pytest_carthage.report.bundle.texts import headline, record, table, transcript

if TYPE_CHECKING:
    from pytest_carthage.handles.printed import Printed
    from pytest_carthage.report.bundle.observable import ObservableMachine

__all__ = ["Written", "write_machine"]

_JOURNAL_S = 10.0
_SCREEN_S = 10.0
_JOURNAL = ["journalctl", "--no-pager", "--output=short-iso-precise", "--boot", "--lines=5000"]
_TABLES = ("addresses", "routes", "listening", "processes")
#: bytes of a log that nobody decodes
_HEAD, _TAIL = 256 << 10, 1 << 20
#: of the summary: lines of a machine's log, and what is shown of each
_LAST_LINES, _LINE = 10, 300


@dataclass(slots=True, kw_only=True)
class Written:
    """What was written of a machine, and of that what a summary shows."""

    pages: Pages
    #: the last command that was run in it; empty: there was none
    last_command: str = ""
    #: what it logged last
    last_lines: Sequence[str] = field(default_factory=list)

    def remember_lines(self, text: str) -> None:
        """Take the last lines of a log for the summary."""
        lines = [line.rstrip() for line in text[-_LAST_LINES * _LINE * 4 :].splitlines()]
        self.last_lines = [printable(line[:_LINE]) for line in lines if line][-_LAST_LINES:]


async def write_machine(
    machine: ObservableMachine | None,
    folder: Path,
    log: Path,
    *,
    has_journal: bool,
    since_s: float,
    since: int = 0,
    remark: Callable[[Printed], str] = lambda printed: "",
) -> Written:
    """Write everything about one machine; returns what was written, and what is missing.

    :param machine: None: it was never ready, and its log is all that there is.
    :param log: what its main process has printed; beside it may be a picture of the screen of one
        that was never ready.
    :param since_s: UNIX time; commands from then on are of interest.
    :param since: bytes of its log that it had printed by then.
    :param remark: a line on what is left out of its log.
    """
    written = Written(pages=Pages(folder))
    pages = written.pages

    def write_log(printed: Printed) -> None:
        pages.text("log.txt", lambda: remark(printed) + printed.text)
        written.remember_lines(printed.text)

    if machine is None:
        own = Log(log)
        if own.size:
            write_log(own.part(since, head=_HEAD, tail=_TAIL))
        else:
            pages.missing["log.txt"] = "it has printed nothing"
        with contextlib.suppress(FileNotFoundError):
            pages.picture("screen.png", log.with_suffix(".png").read_bytes())
        return written
    try:
        write_log(await machine.printed(since))
    except (CarthageError, OSError) as error:
        pages.lacks("log.txt", error)
    if machine.can("screen"):
        await _write_screen(pages, machine)
    if has_journal:
        await _write_journal(written, machine, since_s)
    try:
        observed = await machine.observe()
    except (CarthageError, OSError) as error:
        pages.lacks("observed.json", error)
    else:
        pages.json("observed.json", lambda: observed)
        for name in _TABLES:
            rows = observed.get(name, [])
            pages.text(f"{name}.txt", lambda rows=rows: table(rows))  # type: ignore[misc]
    _write_commands(written, machine, since_s)
    return written


def _write_commands(written: Written, machine: ObservableMachine, since_s: float) -> None:
    kept = machine.commands
    commands = [result for result in kept if result.started_at >= since_s]
    lost = kept.last_left_out
    remark = kept.remark("commands") if lost is not None and lost.started_at >= since_s else ""
    written.pages.text("commands.txt", lambda: remark + "\n".join(map(transcript, commands)))
    written.pages.json("commands.json", lambda: list(map(record, commands)))
    if kept:
        last = kept[-1]
        written.last_command = headline(last)
        if last.started_at < since_s:
            written.last_command += " (before the test)"


async def _write_screen(pages: Pages, machine: ObservableMachine) -> None:
    try:
        async with asyncio.timeout(_SCREEN_S):
            pages.picture("screen.png", await machine.screenshot())
    except TimeoutError:
        pages.missing["screen.png"] = f"no picture within {_SCREEN_S:g} s"
    except (CarthageError, OSError) as error:
        pages.lacks("screen.png", error)


async def _write_journal(written: Written, machine: ObservableMachine, since_s: float) -> None:
    name, pages = "journal.txt", written.pages
    # a second earlier: it takes whole ones
    since = [f"--since=@{int(since_s) - 1}"] if since_s > 1 else []
    try:
        status, out, err = await execute(
            machine.channel,
            [*_JOURNAL, *since],
            user=None,
            cwd=None,
            env={},
            input=None,
            timeout_s=_JOURNAL_S,
        )
    except (CarthageError, OSError, Interrupted) as error:
        pages.lacks(name, error)
        return
    text = out.decode(errors="replace")
    remark = "[what was logged before the test is left out]\n" if since else ""
    pages.text(name, lambda: remark + text)
    if status:
        pages.missing[name] = err.decode(errors="replace").strip() or f"status {status}"
    else:
        written.remember_lines(text)
