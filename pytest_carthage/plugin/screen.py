"""Progress between the lines of pytest: never in the way of its own output, or of capture."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TextIO

import pytest

from pytest_carthage.events import Event, Kind
from pytest_carthage.report.display import Display
from pytest_carthage.report.sheet import Sheet, size_of
from pytest_carthage.report.times import clock

__all__ = ["Screen", "running_test"]

_MARKUP: dict[Kind, dict[str, bool]] = {
    "start": {},
    "note": {},
    "done": {"green": True},
    "cached": {"cyan": True},
    "failed": {"red": True},
}
#: of a terminal, which take no room: CSI and OSC (ECMA-48)
_CODES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")


class Screen:
    """A reporter: a live table on a terminal, one line per event elsewhere.

    Lines stand below what pytest has written of the test that is at work, at once, and with the
    time of day where nobody looks at a terminal. Silent with ``-q`` and without pytest's terminal
    plugin. Events come from any thread.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        plugins = config.pluginmanager
        terminal: pytest.TerminalReporter | None = plugins.getplugin("terminalreporter")
        self._page = None if terminal is None else _Page(terminal, plugins)
        self._display: Display | None = None
        #: the test below whose name the last line stands
        self._heading = ""
        if self._page is None or config.get_verbosity() < 0:
            return
        is_live = self._page.is_terminal and not self._is_shared()
        #: nobody looks: the log is read later
        self._has_times = not is_live
        #: pytest itself writes the name of each test before it runs
        self._has_names = config.get_verbosity() > 0 and not _has_workers(config)
        self._has_letters = config.get_verbosity() == 0 and not _has_workers(config)
        self._display = Display(
            self._page.sheet,
            self._write,
            size=self._page.size if is_live else None,
            color=self._page.has_color,
            stays=self._stays,
        )
        self._page.before_writing = self._display.catch_up

    def event(self, event: Event, /) -> None:
        """Have it shown; one that tells of no test belongs to the one that runs here."""
        if self._display is not None:
            self._display.event(event if event.test else replace(event, test=running_test()))

    def say(self, text: str, **markup: bool) -> None:
        """Write a line of our own between pytest's."""
        if self._display is not None:
            self._display.catch_up()
        if self._page is not None:
            self._page.add(text, **markup)

    def pytest_enter_pdb(self) -> None:
        """Leave the terminal to the debugger."""
        self.pause()

    def pytest_leave_pdb(self) -> None:
        """Have it back."""
        if self._display is not None:
            self._display.resume()

    def pause(self) -> None:
        """Draw no more: somebody else has the terminal."""
        if self._display is not None:
            self._display.pause()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Have the letter of a test stand behind the name of its file, also below our lines."""
        if self._page is None or self._display is None or not self._has_letters:
            return
        self._display.catch_up()
        if self._page.is_broken:
            status: Any = self._config.hook.pytest_report_teststatus(
                report=report, config=self._config
            )
            if status[1]:
                self._page.mend(report.nodeid)

    def close(self) -> None:
        """Show what is left to show, and leave the terminal to pytest."""
        if self._display is not None:
            self._display.close()
        if self._page is not None:
            self._page.close()

    def _is_shared(self) -> bool:
        """Whether a table would be torn: what tests print goes to the terminal, too."""
        captures = self._config.getoption("capture", default="no")
        on_ci = any(os.environ.get(name) for name in ("CI", "BUILD_NUMBER"))
        return captures in ("no", "tee-sys") or on_ci

    def _stays(self, event: Event) -> bool:
        return event.is_milestone or (event.closes and bool(event.test) and self._has_names)

    def _write(self, event: Event, line: str) -> None:
        if self._page is None:
            return
        if event.test and event.test != self._heading and not self._has_names:
            self._page.add(f"carthage: in {event.test}:")
        self._heading = event.test
        time = f"{clock(event.at_s)[:8]} " if self._has_times else ""
        self._page.add(f"{time}carthage: {line}", **_MARKUP[event.kind])


class _Page:
    """What pytest writes to, with a sheet over it."""

    def __init__(self, terminal: pytest.TerminalReporter, plugins: Any) -> None:
        self._terminal = terminal
        #: pytest's own writer, and the file that it has
        self._writer: Any = terminal._tw
        self._file: TextIO = self._writer._file
        self.before_writing: Callable[[], object] = lambda: None
        #: a line of pytest's was ended by ours
        self.is_broken = self._broke = False
        #: the last line is ours
        self._is_ours = False
        self._is_closed = False
        self._is_begun = bool(self._writer.width_of_current_line)
        self._own = _below_capture(self._file, plugins.getplugin("capturemanager"))
        self.sheet = Sheet(
            self._own or self._file, begun=lambda: self._is_begun, broken=self._broken
        )
        self._guard = _Guard(self._file, self)
        self._writer._file = self._guard

    @property
    def is_terminal(self) -> bool:
        """Whether a table can be drawn."""
        return (
            self._own is not None
            and self._own.isatty()
            and os.environ.get("TERM", "dumb") != "dumb"
        )

    @property
    def has_color(self) -> bool:
        """Whether pytest uses colors."""
        return bool(self._terminal.hasmarkup)

    def size(self) -> tuple[int, int]:
        """Columns and lines of the terminal."""
        return size_of(1 if self._own is None else self._own.fileno())

    def add(self, line: str, **markup: bool) -> None:
        """Add a line."""
        if self._is_closed:
            self._terminal.ensure_newline()
            self._terminal.write_line(line, **markup)
            return
        self._is_ours = True
        self.sheet.add(self._writer.markup(line, **markup) if markup else line)

    def mend(self, test: str) -> None:
        """Begin a line anew, with the name of a test's file, as pytest does."""
        self.is_broken = False
        terminal = self._terminal
        if not self._is_begun and getattr(terminal, "showfspath", False):
            path = terminal.config.rootpath / test.partition("::")[0]
            terminal.currentfspath = path
            terminal.write(f"{os.path.relpath(path, terminal.startpath)} ")

    def close(self) -> None:
        """Give pytest its file back."""
        self._is_closed = True
        if self._writer._file is self._guard:
            self._writer._file = self._file
        if self._own is not None:
            with contextlib.suppress(OSError):
                self._own.close()

    def write(self, text: str) -> int:
        """Write pytest's own, below what came before it."""
        with self.sheet.lock:
            self._broke = False
            self.before_writing()
            is_ours, self._is_ours = self._is_ours, False
            if is_ours and text == "\n":  # to begin a line, which has begun
                return 1
            written = self._file.write(text)
            self._file.flush()  # ours goes another way
            last = _CODES.sub("", text).rpartition("\n")[2]
            if last:
                self._is_begun = True
            elif "\n" in text:
                self._is_begun = False
            if self._broke:  # the writer took note of the text before it gave it to us
                self._writer._current_line = last
            return written

    def _broken(self) -> None:
        """Have pytest know that its line has ended."""
        self._is_begun = False
        self._broke = self.is_broken = True
        self._terminal.currentfspath = None
        self._writer._current_line = ""


class _Guard:
    """pytest's file: what is to stand above is there before pytest writes."""

    def __init__(self, file: TextIO, page: _Page) -> None:
        self._file = file
        self._page = page

    def write(self, text: str, /) -> int:
        """Write it, when our own is out of the way."""
        return self._page.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def running_test() -> str:
    """Node id of the test that runs, and is not being set up or torn down; empty: none is."""
    test, _, phase = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")
    return test if phase == "call)" else ""


def _has_workers(config: pytest.Config) -> bool:
    return config.pluginmanager.hasplugin("dsession")


def _below_capture(file: TextIO, capture: Any) -> TextIO | None:
    """The same file below pytest's capture; None where it is no file of the system's.

    A descriptor of our own needs no capture to be suspended when a line is written.
    """
    uncaptured: Any = contextlib.nullcontext()
    if capture is not None:
        uncaptured = capture.global_and_fixture_disabled()
    with uncaptured:
        try:
            file.flush()
            return os.fdopen(
                os.dup(file.fileno()), "w", encoding=file.encoding, errors="backslashreplace"
            )
        except (OSError, ValueError, AttributeError):  # it is in memory
            return None
