"""What a bundle has of one machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.channels.agent import Interrupted, execute
from pytest_carthage.errors import CarthageError
from pytest_carthage.report.bundle.pages import Pages
from pytest_carthage.report.bundle.texts import record, table, transcript

if TYPE_CHECKING:
    from pytest_carthage.report.bundle.observable import ObservableMachine

__all__ = ["write_machine"]

_JOURNAL_S = 10.0
_JOURNAL = ["journalctl", "--no-pager", "--output=short-iso-precise", "--boot", "--lines=5000"]
_TABLES = ("addresses", "routes", "listening", "processes")


async def write_machine(
    machine: ObservableMachine | None,
    folder: Path,
    log: Path,
    *,
    has_journal: bool,
    since_s: float,
) -> Pages:
    """Write everything about one machine; returns what was written, and what is missing.

    :param machine: None: it was never ready, and its log is all that there is.
    :param log: what its main process has printed.
    :param since_s: UNIX time; commands from then on are of interest.
    """
    pages = Pages(folder)
    if machine is None:
        pages.text("log.txt", lambda: log.read_text(errors="replace"))
        return pages
    try:
        text = await machine.logs()
        pages.text("log.txt", lambda: text)
    except (CarthageError, OSError) as error:
        pages.lacks("log.txt", error)
    if has_journal:
        await _write_journal(pages, machine)
    try:
        observed = await machine.observe()
    except (CarthageError, OSError) as error:
        pages.lacks("observed.json", error)
    else:
        pages.json("observed.json", lambda: observed)
        for name in _TABLES:
            rows = observed.get(name, [])
            pages.text(f"{name}.txt", lambda rows=rows: table(rows))  # type: ignore[misc]
    commands = [result for result in machine.commands if result.started_at >= since_s]
    remark = machine.commands.remark("commands")
    pages.text("commands.txt", lambda: remark + "\n".join(map(transcript, commands)))
    pages.json("commands.json", lambda: list(map(record, commands)))
    return pages


async def _write_journal(pages: Pages, machine: ObservableMachine) -> None:
    name = "journal.txt"
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
        pages.lacks(name, error)
        return
    pages.text(name, lambda: out.decode(errors="replace"))
    if status:
        pages.missing[name] = err.decode(errors="replace").strip() or f"status {status}"
