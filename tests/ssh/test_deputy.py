"""Machines that a deputy answers for, by the ssh of this host: what it cannot give is told."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_carthage import Layout
from pytest_carthage.ssh.client_config import Host, client_config, tell_how_to_start
from pytest_carthage.ssh.keys import make_keys
from tests.live.conftest import as_root, build, portal, recorder, state
from tests.live.test_deputies import box

__all__ = ["as_root", "box", "build", "portal", "recorder", "state"]

pytestmark = pytest.mark.real

Ssh = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def ssh(box: Layout, tmp_path: Path) -> Ssh:
    if shutil.which("ssh") is None:
        pytest.skip("no ssh on this host; try: apt install openssh-client")
    keys = make_keys(box.folder)
    supervisor = box.folder.parents[1] / "supervisor.sock"
    tell_how_to_start(keys, environment=box.name, supervisor=supervisor)
    keys.pin(["box"])
    config = tmp_path / "config"
    config.write_text(client_config([Host(names=["box"], machine="box", keys=keys)]))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["ssh", "-F", str(config), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_command_runs_in_the_machine(ssh: Ssh) -> None:
    done = ssh("box", "echo $SHOP; hostname; echo err >&2; exit 3")
    assert (done.stdout, done.stderr, done.returncode) == ("1\nbox\n", "err\n", 3)


def test_user_whom_it_does_not_have_is_told(ssh: Ssh) -> None:
    done = ssh("carol@box", "id")
    assert "no user 'carol' in this machine" in done.stderr
    assert done.returncode == 255


def test_terminal_that_it_does_not_give_is_told(ssh: Ssh) -> None:
    done = ssh("-tt", "box", "id")
    assert "this machine gives no terminal" in done.stdout
    assert done.returncode == 255
