"""Whole logs of a session's environments: bundles have the part of their test alone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pytest_carthage.handles.printed import Printed

__all__ = ["WholeLogs"]

#: of a log that cannot be linked no more than this is copied, its end
_MOST_COPIED = 64 << 20


class WholeLogs:
    """A folder for each environment, ``NAME.logs``, with those logs of which bundles have parts.

    They are the very files, under a second name: they grow until the environment ends, stay when it
    is gone, and take no room of their own. Where the environment's folder is on another file
    system, they are copied once, of very long ones the last 64 MiB.

    :param base: the folder of the bundles.
    """

    def __init__(self, base: Path) -> None:
        self._base = base
        self._kept: set[Path] = set()

    def keep(self, environment: str, log: Path) -> Path:
        """Keep a log; returns where it is then.

        :raises OSError: it cannot be kept.
        """
        target = self._base / f"{environment}.logs" / log.name
        if target not in self._kept:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            target.unlink(missing_ok=True)  # of an earlier session
            try:
                target.hardlink_to(log)
            except OSError:
                _copy_end(log, target)
            self._kept.add(target)
        return target

    def remark(self, environment: str, log: Path, printed: Printed) -> str:
        """A line on what a bundle does not have of a log; empty: it has all of it."""
        if not printed.before and not printed.left_out:
            return ""
        parts = [f"{printed.before} bytes of before the test"] if printed.before else []
        parts += [f"{printed.left_out} bytes of the test itself"] if printed.left_out else []
        try:
            where = f"all of it: {self.keep(environment, log)}"
        except OSError as error:
            where = f"the rest could not be kept: {error}"
        return f"[{' and '.join(parts)} are left out; {where}]\n"


def _copy_end(log: Path, target: Path) -> None:
    with (
        log.open("rb") as source,
        open(target, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file,
    ):
        source.seek(max(0, os.fstat(source.fileno()).st_size - _MOST_COPIED))
        shutil.copyfileobj(source, file, 1 << 20)
