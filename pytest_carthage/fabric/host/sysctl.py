"""Settings of this host's kernel, see sysctl(8) and sysctl.d(5)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["keep", "read"]

_PROC = Path("/proc")
_ETC = Path("/etc")
#: read after what distributions have there
_FILE = "sysctl.d/90-pytest-carthage.conf"
_HEAD = "# written by pytest-carthage doctor --fix\n"


def read(name: str, proc: Path = _PROC) -> int | None:
    """The value of a setting, the first of it if it has many; None: this kernel has none."""
    try:
        return int(_path(name, proc).read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def keep(values: Mapping[str, int], proc: Path = _PROC, etc: Path = _ETC) -> list[str]:
    """Raise settings now and for each boot to come; returns what was done, in words.

    What is as high already stays as it is.

    :raises OSError: a setting or the file cannot be written.
    """
    file = etc / _FILE
    kept = _kept(file)
    done = []
    for name, value in values.items():
        before = read(name, proc)
        if before is not None and before >= value:
            continue
        _path(name, proc).write_text(f"{value}\n")
        kept[name] = value
        done.append(f"{name}: {before}, now {value}, and so at each boot by {file}")
    if done:
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}")
        part.write_text(_HEAD + "".join(f"{name} = {value}\n" for name, value in kept.items()))
        part.replace(file)
    return done


def _path(name: str, proc: Path) -> Path:
    return proc / "sys" / name.replace(".", "/")


def _kept(file: Path) -> dict[str, int]:
    """What an earlier call has written."""
    if not file.exists():
        return {}
    pairs = (line.split("=") for line in file.read_text().splitlines() if line[:1] != "#")
    return {pair[0].strip(): int(pair[1]) for pair in pairs if len(pair) == 2}
