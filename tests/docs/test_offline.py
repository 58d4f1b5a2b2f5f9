"""The commands of ``docs/how-to/offline.md``, typed one after the other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_carthage.providers.podman import PodmanProvider
from tests.support.shelf import tiny_system
from tests.support.unprivileged import REPOSITORY

PAGE = REPOSITORY / "docs/how-to/offline.md"

CONFTEST = '''
from pytest_carthage import File, Image, Layout, Machine


class Shop(Layout):
    """A shop that takes no time to build."""

    tiny = Image.rootfs("system").with_(File("motd", "/etc/motd"))
    web = Machine(tiny, on="podman")


shop = Shop.fixture()
'''


@pytest.mark.real
def test_commands_work_one_after_the_other(tmp_path: Path) -> None:
    if problems := PodmanProvider().check():
        pytest.skip("; ".join(map(str, problems)))
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text("def test_it(shop):\n    assert shop.web.run('sh -c :')\n")
    (tmp_path / "motd").write_text("welcome\n")
    tiny_system(tmp_path / "system")
    programs = Path(sys.executable).parent
    env = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "CARTHAGE_IMAGES": str(tmp_path / "images"),
        "CARTHAGE_STATE": str(tmp_path / "state"),
    }
    lines = [
        line
        for block in re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.DOTALL)
        for line in block.splitlines()
    ]
    assert len(lines) == 5
    for line in lines:
        typed = re.sub(r"\bpytest(?= |$)", f"{sys.executable} -m pytest", line)
        typed = re.sub(r"\bpytest-carthage\b", f"{sys.executable} -m pytest_carthage", typed)
        done = subprocess.run(
            typed,
            shell=True,
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    assert (tmp_path / "Shop/carthage.lock").read_text() == (tmp_path / "carthage.lock").read_text()
