"""Plays: playbooks with what is said on the command line, and those that a layout has had."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.bridge import author_folder
from pytest_carthage.errors import AnsibleError
from pytest_carthage.handles.drift import Drift
from pytest_carthage.work.ansible.command import CommandLine

if TYPE_CHECKING:
    from pytest_carthage.handles.ansible_options import PlaybookOptions
    from pytest_carthage.handles.playbook import PlaybookResult
    from pytest_carthage.planning.plan import Plan

__all__ = ["Play", "Plays"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """Playbooks that run one after the other, and the options of the run; checked."""

    playbooks: tuple[Path, ...]
    line: CommandLine

    @classmethod
    def of(
        cls, plan: Plan, *playbooks: str | os.PathLike[str], options: PlaybookOptions | None = None
    ) -> Play:
        """Read what an author gave; relative paths are of the folder of the
        code that gave them.

        :raises AnsibleError: an option or a playbook is wrong; tells what there is instead.
        """
        if not playbooks:
            raise AnsibleError("no playbook is given; try: ansible('site.yml')")
        return cls(
            playbooks=tuple(_playbook(author_folder() / playbook, plan) for playbook in playbooks),
            line=CommandLine.of(options or {}),
        )

    @property
    def names(self) -> str:
        """The names of its files."""
        return " ".join(path.name for path in self.playbooks)

    def telling(self) -> Play:
        """The same, which tells how files change."""
        return replace(self, line=replace(self.line, diff=True))

    def foretelling(self) -> Play:
        """The same, which only tells what would change, and how; from facts of its own."""
        return replace(self, line=replace(self.line, check=True, diff=True, keep_facts=False))


class Plays:
    """Those that ended well on one layout, in the order of their last run."""

    def __init__(self) -> None:
        self._plays: list[Play] = []

    def remember(self, play: Play) -> None:
        """Take in one that ended well; what was only foretold has brought nothing about."""
        if play.line.check:
            return
        if play in self._plays:
            self._plays.remove(play)
        self._plays.append(play)

    async def check(self, layout: str, run: Callable[[Play], Awaitable[PlaybookResult]]) -> Drift:
        """Foretell what each would change now.

        :param run: runs a play.
        :raises AnsibleError: there was none, or one does not come to its first task.
        """
        if not self._plays:
            raise AnsibleError(
                f"layout {layout!r}: no playbook has run on it, so nothing can have drifted; "
                "try: layout.ansible('site.yml') in a stage"
            )
        results = []
        for play in self._plays:
            try:
                results.append(await run(play.foretelling()))
            except AnsibleError as error:
                result = error.result
                # machines that are gone have nothing that drifts
                if result is None or not (result.tasks or result.unmatched):
                    raise
                results.append(result)
        return Drift(runs=tuple(results))


def _playbook(path: Path, plan: Plan) -> Path:
    full = path.absolute()
    if full.is_file():
        return full
    folder = full.parent
    if full.is_dir():
        fault, folder = "it is a folder", full
    elif folder.is_dir():
        fault = "there is no such file"
    else:
        fault = f"there is no folder {str(folder)!r}"
    there = sorted(path.name for path in folder.glob("*.y*ml")) if folder.is_dir() else []
    raise AnsibleError(
        f"playbook {str(path)!r} for layout {plan.layout!r}: {fault} (looked for {str(full)!r}); "
        + (
            f"playbooks there: {', '.join(there)}"
            if there
            else "try: a path from the folder of the code that gives it, or an absolute one"
        )
    )
