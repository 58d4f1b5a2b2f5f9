"""The commands of ``docs/how-to/images.md``, in the order in which a person types them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.shelf import tiny_system
from tests.support.unprivileged import REPOSITORY

SUITE = """
from pytest_carthage import File, Image, Layout, Machine, Network

server = Image.rootfs("system", name="server").with_(File("os-release", "/etc/os-release"))


class Lab(Layout):
    lan = Network("10.0.0.0/24")
    web = Machine(server, links={"eth0": lan.at(".1")})
"""

#: needs a registry, a terminal, or a kernel to put on a disk; each has a test of its own
ELSEWHERE = ("push", "qcow2")


@pytest.mark.real
def test_commands_of_the_page_do_what_it_says(tmp_path: Path) -> None:
    tiny_system(tmp_path / "system")
    (tmp_path / "os-release").write_text('ID="tiny"\n')
    (tmp_path / "conftest.py").write_text(SUITE)
    page = (REPOSITORY / "docs/how-to/images.md").read_text()
    blocks = re.findall(r"```console\n(.*?)```", page, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    printed = {}
    for line in lines:
        words = shlex.split(line)
        if words[0] != "pytest-carthage" or any(one in line for one in ELSEWHERE):
            continue
        if words[1:] == ["images", "shell", "server"]:
            continue
        done = subprocess.run(
            [sys.executable, "-m", "pytest_carthage", *words[1:]],
            cwd=tmp_path,
            env={
                "PATH": os.environ["PATH"],
                "CARTHAGE_STATE": str(tmp_path / "state"),
                "CARTHAGE_IMAGES": str(tmp_path / "images"),
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        printed[line] = done.stdout
    assert "to do: never built" in printed["pytest-carthage plan conftest.py:Lab"]
    assert "was there already" in printed["pytest-carthage images build conftest.py:server"]
    assert "unused" in printed["pytest-carthage images ls"]
    assert "os-release" in printed["pytest-carthage images history server"]
    look = "pytest-carthage images shell server -- cat /etc/os-release"
    assert printed[look] == 'ID="tiny"\n'
    assert printed["pytest-carthage images rm server"].startswith("removed server (")
    assert list((tmp_path / "images/layers").iterdir()) == []
