"""Having providers destroy what outlives a fabric, in a process that can load them.

Standard library only: the supervisor, which asks for it, is a lean process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_carthage.state import journal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["Failed", "Sweep", "search_path"]

#: the longest that all of one sweep may take
LIMIT_S = 300.0


class Failed(NamedTuple):
    """What could not be destroyed, and why."""

    identity: journal.Entry
    error: str


class Sweep:
    """One process that has providers destroy things.

    :param identities: what to destroy, as the journal has it.
    :param log: file to which all goes that providers print.
    :param ask: identity of a run of which providers are asked what still exists.
    :param kinds: whom to ask; None: all there are.
    :param environment: gives the environment that providers see; None: that of this process.
    """

    def __init__(
        self,
        identities: Sequence[journal.Entry],
        log: Path,
        *,
        ask: str = "",
        kinds: Sequence[str] | None = None,
        environment: Callable[[], dict[str, str]] | None = None,
    ) -> None:
        self._identities = identities
        self._log = log
        self._environment = environment or _own
        self._question = {"identities": identities, "ask": ask, "kinds": kinds}
        self._is_needed = bool(identities or (ask and kinds != []))
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopped = False

    def run(self) -> list[Failed]:
        """Destroy them, and what providers know of beside; returns what is left of it."""
        if not self._is_needed:
            return []
        try:
            return self._run()
        except OSError as error:
            return [Failed(identity, f"no sweep: {error}") for identity in self._identities]

    def _run(self) -> list[Failed]:
        with open(self._log, "ab") as log:
            self._process = process = subprocess.Popen(
                [sys.executable, "-m", "pytest_carthage.state.sweeper"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd="/",
                env=self._environment(),
            )
        if self._is_stopped:
            process.kill()
        end = ""
        question = json.dumps(self._question).encode()
        try:
            answer, _ = process.communicate(question, timeout=LIMIT_S)
            if process.returncode:
                end = f"the sweep ended with status {process.returncode}; see {self._log}"
        except subprocess.TimeoutExpired:
            process.kill()
            answer, _ = process.communicate()
            end = f"no end after {LIMIT_S:g} s"
        return self._left(answer, end or "the sweep told nothing of it")

    def _left(self, answer: bytes, end: str) -> list[Failed]:
        """What is left after a sweep that told this, as far as it came."""
        left = {journal.thing(identity): Failed(identity, end) for identity in self._identities}
        for line in answer.splitlines():
            try:
                row: dict[str, Any] = json.loads(line)
                identity, error = row["identity"], row["error"]
            except (ValueError, KeyError, TypeError):
                continue  # it was cut off
            if error is None:
                left.pop(journal.thing(identity), None)
            else:
                left[journal.thing(identity)] = Failed(identity, error)
        return list(left.values())

    def stop(self) -> None:
        """End it early, from another thread: what is not destroyed by then is left."""
        self._is_stopped = True
        if self._process is not None:
            self._process.kill()


def _own() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": search_path()}


def search_path() -> str:
    """Where this process finds modules, for one that has to find the same providers."""
    package = os.path.abspath(__file__).rsplit("/", 3)[0]
    folders = [os.path.abspath(folder) for folder in sys.path if os.path.isdir(folder or ".")]
    return os.pathsep.join(dict.fromkeys([*folders, package]))
