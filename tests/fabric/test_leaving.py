"""Leaving the host for namespaces, of a user who is refused more ids than his own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.unprivileged import REPOSITORY, as_user

_LEAVES = """
import os, sys
sys.path.insert(0, {repository!r})
from pytest_carthage.fabric import namespaces
from pytest_carthage.fabric.host.subids import Maps

# of nobody's: they are in no file
maps = Maps(*((0, own, 1, 1, 3_000_000_000, 65535) for own in (os.getuid(), os.getgid())))
try:
    namespaces._leave_with(maps, 0)
except OSError as error:
    print(error)
"""


@pytest.mark.real
@pytest.mark.skipif(not Path("/usr/bin/newuidmap").exists(), reason="no uidmap")
def test_refused_subordinate_ids_are_told_in_the_words_of_who_gives_them(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody who has none")
    code = _LEAVES.format(repository=str(REPOSITORY))
    done = subprocess.run(
        as_user([sys.executable, "-c", code], home=tmp_path),
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert done.stdout.startswith("its subordinate ids: newuidmap: "), done.stdout + done.stderr
    assert "not allowed" in done.stdout
