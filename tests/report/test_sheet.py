"""Lines, and frames below them, as a terminal shows them."""

from __future__ import annotations

import io

import pyte

from pytest_carthage.report.sheet import Sheet


class Terminal:
    """A terminal of 20 columns and 6 lines, on which somebody else writes, too."""

    def __init__(self) -> None:
        self._screen = pyte.HistoryScreen(20, 6, history=100)
        self._terminal = pyte.Stream(self._screen)
        self.is_begun = False
        self.sheet = Sheet(self, begun=lambda: self.is_begun, broken=self._break)

    def write(self, text: str) -> None:
        self._terminal.feed(text.replace("\n", "\r\n"))

    def flush(self) -> None:
        pass

    def other(self, text: str) -> None:
        """What somebody writes who takes the frame away first."""
        self.sheet.erase()
        self.write(text)
        self.is_begun = not text.endswith("\n")

    def _break(self) -> None:
        self.is_begun = False

    @property
    def lines(self) -> list[str]:
        """All that is there now, and what has left at the top."""
        past = [
            "".join(row[column].data for column in range(20)) for row in self._screen.history.top
        ]
        lines = [line.rstrip() for line in (*past, *self._screen.display)]
        while lines and not lines[-1]:
            lines.pop()
        return lines


def test_frame_stands_below_and_leaves_nothing() -> None:
    terminal = Terminal()
    terminal.other("test_it.py .")
    terminal.sheet.draw(["web  starting", "0 of 1 done"])
    assert terminal.lines == ["test_it.py .", "web  starting", "0 of 1 done"]
    terminal.sheet.draw(["web  starting"])
    assert terminal.lines == ["test_it.py .", "web  starting"]
    terminal.other(".")
    assert terminal.lines == ["test_it.py .."]


def test_frame_takes_an_empty_line() -> None:
    terminal = Terminal()
    terminal.other("collected\n")
    terminal.sheet.draw(["web  starting", "0 of 1 done"])
    assert terminal.lines == ["collected", "web  starting", "0 of 1 done"]
    terminal.sheet.erase()
    assert terminal.lines == ["collected"]


def test_line_comes_above_the_frame_and_below_what_was_begun() -> None:
    terminal = Terminal()
    terminal.other("test_it.py .")
    terminal.sheet.draw(["web  starting", "0 of 1 done"])
    terminal.sheet.add("web: done")
    terminal.sheet.draw(["db  starting"])
    assert terminal.lines == ["test_it.py .", "web: done", "db  starting"]
    assert not terminal.is_begun


def test_nothing_is_lost_at_the_lower_end_of_the_terminal() -> None:
    terminal = Terminal()
    for number in range(12):
        terminal.other(f"line {number}\n")
        terminal.sheet.draw(["one", "two", "three"])
        terminal.other(f"test {number}.py ")
        terminal.sheet.draw(["one", "two", "three"])
        terminal.sheet.add(f"own {number}")
    expected = [f"{word} {number}" for number in range(12) for word in ("line", "test", "own")]
    assert [line.removesuffix(".py") for line in terminal.lines] == expected


def test_reader_that_is_gone_is_let_go() -> None:
    class Gone(io.StringIO):
        def write(self, text: str, /) -> int:
            raise BrokenPipeError

    sheet = Sheet(Gone())
    sheet.add("one")
    sheet.draw(["two"])
    sheet.erase()
