"""What ``docs/how-to/other-tools.md`` tells people to type, typed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.host import netns_lacks
from tests.support.unprivileged import REPOSITORY

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

PAGE = REPOSITORY / "docs/how-to/other-tools.md"
TOOLS = ("ssh", "scp", "sftp", "rsync", "ansible", "pyinfra")


def typed() -> list[str]:
    """The lines of the page's console blocks, but those that install something."""
    blocks = re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line for line in lines if not line.startswith("pip install")]


def test_everything_that_is_told_works() -> None:
    if problems := netns_lacks():
        pytest.skip("; ".join(map(str, problems)))
    beside = Path(sys.executable).parent
    path = f"{beside}:{os.environ['PATH']}"
    if missing := [tool for tool in TOOLS if shutil.which(tool, path=path) is None]:
        pytest.skip(f"not on this host: {', '.join(missing)}")
    with tempfile.TemporaryDirectory(prefix="docs-") as folder:
        suite = Path(folder) / "suite"
        shutil.copytree(REPOSITORY / "example_suites/own_layout", suite)
        programs = Path(folder) / "bin"
        programs.mkdir()
        ours = programs / "pytest-carthage"
        ours.write_text(f'#!/bin/sh\nexec {sys.executable} -m pytest_carthage "$@"\n')
        ours.chmod(0o755)
        env = {
            **os.environ,
            "PATH": f"{programs}:{path}",
            "CARTHAGE_STATE": f"{folder}/state",
            "PYTHONPATH": str(REPOSITORY),
        }
        try:
            for line in typed():
                done = subprocess.run(
                    ["sh", "-c", line],
                    cwd=suite,
                    env=env,
                    capture_output=True,
                    text=True,
                    stdin=subprocess.DEVNULL,
                    timeout=60,
                    check=False,
                )
                assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
                if line.startswith("pyinfra"):  # which is content without hosts, too
                    assert "[@ssh/desk] Success" in done.stdout + done.stderr
            assert (suite / "greeting").read_text() == "hello\n"
        finally:
            subprocess.run(
                [ours, "rm", "told-branch"], env=env, check=False, capture_output=True, timeout=60
            )
