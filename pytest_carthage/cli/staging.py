"""Stages of a layout, run in a live environment by pytest, whose fixtures they are."""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pytest_carthage.cli.usage import Usage

if TYPE_CHECKING:
    from pytest_carthage.live.ledger import Ledger
    from pytest_carthage.state.listing import Listed

__all__ = ["add_file", "run_stages"]

_PLUGIN = "pytest_carthage.plugin.staging"
#: pytest's exit status to ours, where they differ: interrupted, and wrong usage
_STATUS = {2: 130, 3: 1, 4: 2, 5: 1}


def add_file(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--from``."""
    parser.add_argument(
        "--from",
        dest="file",
        metavar="FILE",
        default="",
        help="file whose stages are meant, with those of conftest.py above (default: where the "
        "layout's fixture was found, or conftest.py beside the layout)",
    )


def run_stages(
    environment: Listed,
    *,
    only: str = "",
    again: bool = False,
    file: str = "",
    quiet: bool = False,
    output: IO[str] | None = None,
) -> int:
    """Run stages of the layout of an environment; returns the exit status of a command.

    Those that have run there already do not run again.

    :param only: one stage, and those that it needs; by default all.
    :param again: whether that one runs again if it has run.
    :param file: where to look for stages; by default where the layout's fixture was found, or
        the layout.
    :param output: where pytest's output goes; None: where ours does.
    :raises Usage: there is no such file.
    :raises StateError: the environment is of another version.
    """
    from pytest_carthage.live import ledger

    written = ledger.read(environment.folder)
    suite = Path(file).absolute() if file else _suite(written)
    if not suite.is_file():
        raise Usage(f"no file {suite}, which could have stages; try: --from FILE")
    # whoever has plugins loaded by name names them in the suite's ini file
    is_bare = bool(os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD"))
    command = [
        *(sys.executable, "-m", "pytest", *(["-p", "pytest_carthage.plugin"] if is_bare else [])),
        *("-p", _PLUGIN, "--no-header"),
        *(["-q"] if quiet else []),
        *(["-n0"] if not is_bare and importlib.util.find_spec("xdist") else []),
        *("-k", "", "-m", ""),
        f"--carthage-use={environment.name}",
        *([f"--carthage-target={written.target}"] if written.target else []),
        *([f"--carthage-again={only}"] if again else []),
        f"--staging-file={suite}",
        f"--staging-layout={written.file}:{written.layout}",
        f"--staging-only={only}",
        str(suite),
    ]
    process = subprocess.Popen(command, stdout=output)
    while True:
        try:
            status = process.wait()
            break
        except KeyboardInterrupt:
            continue  # pytest has heard it, too, and ends in order
    return _STATUS.get(status, status)


def _suite(written: Ledger) -> Path:
    """The file to begin with: stages of ``conftest.py`` above it are seen from there."""
    if written.suite:
        suite = Path(written.suite)
        return suite / "conftest.py" if suite.is_dir() else suite
    file = Path(written.file)
    is_pytests = file.name == "conftest.py" or file.stem.startswith("test_")
    nearby = [folder / "conftest.py" for folder in (file.parent, Path.cwd())]
    return next((each for each in nearby if not is_pytests and each.is_file()), file)
