"""What pages tell people to type: the ``console`` blocks, line by line, with what is printed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.unprivileged import REPOSITORY

__all__ = ["Typed", "differs", "pages", "typed_on"]

_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """One line that a page tells people to type."""

    #: relative to the repository
    page: str
    #: without a prompt and without a comment
    line: str
    #: what the page shows of its output; empty: nothing
    printed: str = ""


def pages() -> list[Path]:
    """All that a reader of the documentation reads."""
    lessons = (REPOSITORY / "example_suites").glob("*/README.md")
    top = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md")]
    return [*top, *sorted((REPOSITORY / "docs").rglob("*.md")), *sorted(lessons)]


def typed_on(page: Path) -> Iterator[Typed]:
    """The lines of a page; where a block has prompts (``$``), what follows is their output."""
    name = str(page.relative_to(REPOSITORY))
    for block in _BLOCK.findall(page.read_text()):
        if block.startswith("$ "):
            for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                line, _, printed = part.partition("\n")
                yield Typed(page=name, line=_command(line), printed=printed)
        else:
            yield from (Typed(page=name, line=_command(line)) for line in block.splitlines())


def _command(line: str) -> str:
    return re.sub(r"\s+# .*", "", line)


def differs(shown: str, printed: str) -> str:
    """What a page shows that was not printed, as its first such line; empty: nothing.

    Numbers, names of environments, folders of code and the width of rulers may be others; ``...``
    is anything.
    """
    rest = iter([_essence(line) for line in printed.splitlines()])
    skipping = True
    for line in shown.splitlines():
        if line.strip() == "...":
            skipping = True
            continue
        wanted = _essence(line)
        for there in rest:
            if there == wanted:
                break
            if not skipping and there:
                return f"{line!r}; there is {there!r}"
        else:
            return repr(line)
        skipping = False
    return ""


def _essence(line: str) -> str:
    line = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", line)
    line = re.sub(r"\b[a-z]{6}-([a-z]+)\b", r"NAME-\1", line)
    line = re.sub(r"\d+(\.\d+)?", "0", line)
    line = re.sub(r"/\S+/(?=\w+\.py:)", "", line)
    line = re.sub(r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun) 0:0\b", "DAY 0:0", line)
    line = re.sub(r"={3,}", "===", line)
    return re.sub(r"\s+", " ", line).strip()
