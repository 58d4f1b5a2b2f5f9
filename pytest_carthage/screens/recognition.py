"""The text on a screen, by tesseract(1)."""

from __future__ import annotations

import asyncio
import os
import re
import shutil

from pytest_carthage.errors import FabricError, HostError, Problem
from pytest_carthage.screens.picture import Gray

__all__ = ["PROBLEM", "lacks", "recognise", "shows"]

_PROGRAM = "tesseract"
PROBLEM = Problem(
    who="screens",
    what="text on screens is recognised by tesseract, and there is none",
    remedy="apt install tesseract-ocr",
    packages=("tesseract-ocr",),
    is_partial=True,
)
#: the longest that one picture may take
_LIMIT_S = 60.0
#: pixels across that a screen is enlarged to: it reads lines best that are about 30 pixels high,
#: and those of a text console have 16
_WIDTH = 2000
#: what looks alike on a screen, and is taken for one another
_ALIKE = str.maketrans(
    {
        **dict.fromkeys("0OQ@", "o"),
        **dict.fromkeys("1lI|!", "l"),
        **dict.fromkeys("vVuUwW", "u"),
        **dict.fromkeys("\u2014\u2013~", "-"),
        **dict.fromkeys("\u2018\u2019`\u00b4", "'"),
        **dict.fromkeys("\u201c\u201d", '"'),
    }
)


def lacks() -> Problem | None:
    """What this host lacks to recognise text; None: nothing."""
    return None if shutil.which(_PROGRAM) else PROBLEM


async def recognise(picture: bytes) -> str:
    """The text on a screen, line by line, as far as it is recognised.

    Each picture takes about a second of one processor.

    :param picture: a PNG file.
    :raises HostError: tesseract is not installed.
    :raises FabricError: it fails.
    """
    if (problem := lacks()) is not None:
        raise HostError([problem])
    prepared = await asyncio.to_thread(_prepared, picture)
    process = await asyncio.create_subprocess_exec(
        *(_PROGRAM, "-", "-", "--psm", "6"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # its threads wait for one another, and cost more than they gain
        env={**os.environ, "OMP_THREAD_LIMIT": "1"},
    )
    try:
        async with asyncio.timeout(_LIMIT_S):
            out, err = await process.communicate(prepared)
    except TimeoutError:
        raise FabricError(f"{_PROGRAM}: no text after {_LIMIT_S:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        words = err.decode(errors="replace").strip() or f"status {process.returncode}"
        raise FabricError(f"{_PROGRAM}: {words}")
    return out.decode(errors="replace").strip()


def _prepared(picture: bytes) -> bytes:
    """The same as it is read best: dark on bright, and large."""
    gray = Gray.of(picture)
    if gray.is_dark:
        gray = gray.inverted()
    return gray.enlarged(max(1, min(3, round(_WIDTH / gray.width)))).png()


def shows(text: str, wanted: str) -> bool:
    """Whether a text is in what was recognised: blanks do not count, nor which of several
    characters it is that look alike, as ``0`` and ``O``.
    """
    return _folded(wanted) in _folded(text)


def _folded(text: str) -> str:
    return re.sub(r"\s+", "", text).translate(_ALIKE).lower()
