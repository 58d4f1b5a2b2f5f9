"""``images`` as a user without privileges: files of other ids are looked at and removed, too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_carthage.fabric.host.privilege import user_namespace_problems
from tests.support.shelf import tiny_system
from tests.support.unprivileged import account, as_user

SUITE = """
from pytest_carthage import File, Image, filesystem_task


@filesystem_task("give away")
def give_away(fs):
    fs.run("mkdir /srv/closed; echo secret >/srv/closed/file; chown -R 33:33 /srv/closed; "
           "chmod 700 /srv/closed")


@filesystem_task("fail")
def fail(fs):
    fs.run("mkdir /srv/half; chown 33 /srv/half; exit 1")


tiny = Image.rootfs("system", name="tiny").with_(give_away, name="given")
bad = tiny.with_(fail, name="bad")
"""

Ours = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def ours() -> Iterator[Ours]:
    """Runs ``pytest-carthage`` as an account of its own, in a folder with an image."""
    if os.geteuid() != 0:
        pytest.skip("only root can make the account that runs this")
    if problems := user_namespace_problems():
        pytest.skip("; ".join(map(str, problems)))
    # pytest's own temporary folder is closed to others
    folder = Path(tempfile.mkdtemp(prefix="images-"))
    folder.chmod(0o755)
    tiny_system(folder / "system", ("sh", "cat", "mkdir", "chown", "chmod", "stat"))
    (folder / "system/srv").mkdir()
    (folder / "lab.py").write_text(SUITE)
    try:
        with account() as user:

            def run(*words: str) -> subprocess.CompletedProcess[str]:
                argv = [sys.executable, "-m", "pytest_carthage", "images", *words]
                return subprocess.run(
                    as_user(argv, home=folder, user=user),
                    cwd=folder,
                    env={
                        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                        "PYTHONPATH": os.pathsep.join(sys.path),
                        "CARTHAGE_STATE": str(folder / "state"),
                        "CARTHAGE_IMAGES": str(folder / "images"),
                    },
                    capture_output=True,
                    text=True,
                    timeout=60,
                    check=False,
                )

            yield run
    finally:
        shutil.rmtree(folder)


@pytest.mark.real
def test_images_of_a_user_are_built_looked_into_and_removed(ours: Ours) -> None:
    built = ours("build", "-q", "lab.py:tiny")
    assert built.returncode == 0, built.stderr
    script = (
        "stat -c %u:%g:%a /srv/closed; cat /srv/closed/file; mkdir /srv/more; chown 33 /srv/more"
    )
    looked = ours("shell", "given", "--", "sh", "-c", script)
    assert (looked.returncode, looked.stdout) == (0, "33:33:700\nsecret\n"), looked.stderr
    broken = ours("build", "-q", "--keep-on-fail", "lab.py:bad")
    assert broken.returncode == 1
    half = ours("shell", "bad", "--", "stat", "-c", "%u", "/srv/half")
    assert half.stdout == "33\n", half.stderr
    assert ours("gc").stdout.startswith("removed locks: ")
    removed = ours("rm", "given", "bad")
    assert removed.returncode == 0, removed.stderr
    assert ours("ls", "--json").stdout.count('"layers": 0') == 1
    assert ours("gc").stdout == "nothing to remove\n"
