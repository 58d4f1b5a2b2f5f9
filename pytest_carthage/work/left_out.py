"""Documentation, manual pages and translations, which images leave out to save space."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import PurePosixPath

from pytest_carthage.model.image import UNNEEDED

__all__ = ["FILE", "advice", "left_out"]

#: dpkg's configuration that has them left out, see dpkg.cfg(5)
FILE = PurePosixPath("/etc/dpkg/dpkg.cfg.d/carthage")

_PATH = re.compile(rf"/usr/share/(?P<kind>{'|'.join(UNNEEDED)})/[^\s'\"\u2018\u2019:;,)]+")
_MISSING = re.compile(r"No such file|cannot stat|not found|does not exist|could not find", re.I)


def left_out(configuration: str) -> Collection[str]:
    """Folders of ``/usr/share`` that a file of dpkg's configuration has left out."""
    return [kind for kind in UNNEEDED if f"path-exclude=/usr/share/{kind}/*" in configuration]


def advice(text: str, kinds: Collection[str]) -> str:
    """Why a file is not there that something has missed, and what to do; empty: no such file.

    :param text: what a program has said.
    :param kinds: folders of ``/usr/share`` that are left out.
    """
    for line in text.splitlines():
        match = _PATH.search(line)
        if match is None or match["kind"] not in kinds or not _MISSING.search(line):
            continue
        remedy = 'locales=["de_DE.UTF-8"]' if match["kind"] == "locale" else "docs=True"
        return (
            f"{match[0]} is left out of the machine's image, as all of "
            f"/usr/share/{match['kind']}, to save space; try: Image.debian(..., {remedy})"
        )
    return ""
