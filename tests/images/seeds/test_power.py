"""How a machine is ended that may have any init: the commands are told here, and never run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pytest_carthage.images.seeds.units import HOME, programs


@pytest.mark.parametrize(
    ("has_systemd", "first", "told"),
    [
        (True, "/usr/lib/systemd/systemd", "systemctl --no-block reboot"),
        (False, "/run/carthage/busybox", "kill -TERM 1"),
        (True, "/run/carthage/busybox", "kill -TERM 1"),
        (False, "/usr/sbin/init", "reboot"),
    ],
)
def test_machine_is_ended_by_whatever_is_its_init(
    has_systemd: bool, first: str, told: str, tmp_path: Path
) -> None:
    script = programs("")[f"{HOME}/reboot"].data.decode()
    look = "/run/carthage/busybox readlink /proc/1/exe"
    assert script.count(look) == 1
    replaced = script.replace(look, f"echo {first}")
    replaced = replaced.replace("/run/systemd/system", str(tmp_path / "systemd"))
    replaced = replaced.replace("exec ", "echo ").replace("kill ", "echo kill ")
    replaced = replaced.replace("--no-block reboot;", "--no-block reboot; exit;")
    if has_systemd:
        (tmp_path / "systemd").mkdir()
    done = subprocess.run(["sh", "-c", replaced], capture_output=True, text=True, check=True)
    assert done.stdout == f"{told}\n"
