"""The command that runs one test again."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

__all__ = ["again"]

#: options that spread tests or choose among them, with the number of their values
_LEFT_OUT = {
    "-n": 1,
    "--numprocesses": 1,
    "--dist": 1,
    "--tx": 1,
    "--maxprocesses": 1,
    "-k": 1,
    "-m": 1,
    "--lf": 0,
    "--last-failed": 0,
    "--ff": 0,
    "--failed-first": 0,
    "--nf": 0,
    "--new-first": 0,
    "--sw": 0,
    "--stepwise": 0,
    "--deselect": 1,
    "--ignore": 1,
}


def again(config: pytest.Config, test: str) -> str:
    """The command that runs a test again, with the options that it was run with.

    :param test: its node id.
    """
    worker: Mapping[str, Any] = getattr(config, "workerinput", {})
    given = worker["mainargv"][1:] if "mainargv" in worker else config.invocation_params.args
    options = _options([str(word) for word in given], config.option.file_or_dir or ())
    folder = config.invocation_params.dir
    path, colons, name = test.partition("::")
    node = f"{os.path.relpath(config.rootpath / path, folder)}{colons}{name}"
    return f"cd {shlex.quote(str(folder))} && {shlex.join(['pytest', *options, node])}"


def _options(words: Sequence[str], files: Sequence[str]) -> list[str]:
    """Words of a command line without files, tests, and what chooses among them."""
    words = list(words)
    for file in files:  # the last ones: a value of an option may look the same
        if file in words:
            del words[len(words) - 1 - words[::-1].index(file)]
    options: list[str] = []
    left_out = 0
    for word in words:
        if left_out:
            left_out -= 1
            continue
        name, equals, _ = word.partition("=")
        if name in _LEFT_OUT:
            left_out = 0 if equals else _LEFT_OUT[name]
        elif word[:2] not in ("-n", "-k", "-m") or len(word) == 2:
            options.append(word)
    return options
