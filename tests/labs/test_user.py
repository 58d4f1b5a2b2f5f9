"""A lab in a suite of an ordinary user's, and what pytest says of it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pytest_carthage.fabric.host import privilege
from tests.support.unprivileged import as_user

pytestmark = pytest.mark.real

FILES = {
    "lab/lab.conf": 'LAB_NAME="pair"\npc1[0]=A\npc2[0]=A\npc2[port]="80:80"\n',
    "lab/pc1.startup": "ip address add 10.0.0.1/24 dev eth0\n",
    "lab/pc2.startup": "ip address add 10.0.0.2/24 dev eth0\necho $$ >> /run/started\n",
    "conftest.py": """\
from pytest_carthage import Layout

pair = Layout.from_kathara("lab", images={"kathara/base": None}).fixture()
""",
    "test_pair.py": """\
def test_pair(pair):
    assert pair.pc1.ping("pc2") < 5
    assert len(pair.pc2.run("cat /run/started").lines) == 1
    pair.pc2.restart()
    assert len(pair.pc2.run("cat /run/started").lines) == 1
    assert pair.pc1.ping("pc2") < 5


def test_it_is_as_it_was(pair):
    assert len(pair.not_taken) == 1
""",
}


def test_lab_of_an_ordinary_user_is_tested_and_warned_of_once() -> None:
    if problems := privilege.user_namespace_problems():
        pytest.skip("; ".join(map(str, problems)))
    # pytest's own temporary folders are closed to others
    with tempfile.TemporaryDirectory(prefix="lab-") as home:
        for name, text in FILES.items():
            path = Path(home, name)
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        done = subprocess.run(
            as_user([sys.executable, "-m", "pytest", "-p", "no:cacheprovider"], home=Path(home)),
            cwd=home,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    printed = done.stdout + done.stderr
    assert "2 passed, 1 warning" in printed, printed
    assert printed.count("lab.conf:4: machine 'pc2': port is not taken") == 1, printed
