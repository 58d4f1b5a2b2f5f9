"""What the kernel takes of words and variables when it starts a program, see execve(2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pytest_carthage.model.mistakes.value import shown

__all__ = ["variables_mistake", "words_mistake"]

_LONGEST = (128 << 10) - 1  # MAX_ARG_STRLEN with the null byte at the end, linux/binfmts.h
# a quarter of the usual stack limit is for all strings and pointers to them; what is left is for
# whatever the image and the command have
_MOST = (2 << 20) - (256 << 10)
_POINTER = 9  # and the null byte


def words_mistake(words: Iterable[object]) -> str | None:
    """Why a command cannot be started; None: it can."""
    total = 0
    for number, word in enumerate(words):
        if not isinstance(word, str):
            return f"{shown(word)} is no text ({type(word).__name__})"
        if not word and not number:
            return "the name of the program is empty"
        size = len(word.encode())
        if size > _LONGEST:
            return f"{shown(word)} has {size} bytes, and the kernel takes {_LONGEST} for a word"
        total += size + _POINTER
    return _too_much(total)


def variables_mistake(variables: Mapping[str, str]) -> str | None:
    """Why no program can be started with these variables; None: it can."""
    total = 0
    for name, value in variables.items():
        if not name or "=" in name:
            return f"env has no variable name in {shown(name)}"
        size = len(name.encode()) + 1 + len(value.encode())
        if size > _LONGEST:
            return (
                f"env[{shown(name)}] has {size} bytes with its name, and the kernel takes"
                f" {_LONGEST} for a variable"
            )
        total += size + _POINTER
    return _too_much(total)


def _too_much(total: int) -> str | None:
    if total <= _MOST:
        return None
    return f"all of it has {total} bytes, and the kernel takes {_MOST} beside what else there is"
