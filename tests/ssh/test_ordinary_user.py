"""Machines of an ordinary user, by the ssh of this host, and by Ansible."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pytest_carthage.fabric.host import privilege
from tests.support.unprivileged import REPOSITORY, as_user

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

#: what takes little time, and shows all ways in
CHOSEN = (
    "runs_in_the_machine or much_goes or scp or forwarded or terminal_has or keys_are "
    "or play_is_in or does_not_reach"
)
TESTS = ("tests/ssh/test_hosts.py", "tests/cli/test_ansible.py")


@pytest.mark.skipif(os.geteuid() != 0, reason="the others are run as they are")
def test_ordinary_user_has_all_that() -> None:
    if problems := privilege.user_namespace_problems():
        pytest.skip("; ".join(map(str, problems)))
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", CHOSEN]
    argv += [str(REPOSITORY / path) for path in TESTS]
    # pytest's own temporary folders are closed to others
    with tempfile.TemporaryDirectory(prefix="unprivileged-") as home:
        done = subprocess.run(
            as_user(argv, home=Path(home)),
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 passed" in done.stdout
