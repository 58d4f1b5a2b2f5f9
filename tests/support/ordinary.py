"""An ordinary user, with subordinate ids and perhaps a control group, who runs things."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage.fabric.container import delegation, groups
from pytest_carthage.fabric.host.privilege import user_namespace_problems
from pytest_carthage.images.exports.tarball import save_tarball
from pytest_carthage.store.built import Built
from tests.providers.conftest import UNPACKED
from tests.support.unprivileged import REPOSITORY, account, as_user

__all__ = ["User", "users"]

#: what may be run takes a tenth of it on a host that has nothing else to do
_LIMIT_S = 600.0


class User:
    """An account whose state and images are below a folder of its own."""

    def __init__(self, name: str, folder: Path, debian: Path) -> None:
        self.name = name
        self.folder = folder
        self.env = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": str(REPOSITORY),
            "HOME": str(folder),
            "CARTHAGE_STATE": str(folder / "state"),
            "CARTHAGE_IMAGES": str(folder / "images"),
            UNPACKED: str(debian),
        }

    def run(
        self, *words: str, cwd: Path = REPOSITORY, delegated: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run a module of Python.

        :param delegated: root has given him a control group before, as ``doctor`` says.
        """
        argv = as_user([sys.executable, "-m", *words], home=self.folder, user=self.name)
        recipe = delegation.recipe(self.name)
        if delegated:
            script = recipe.removesuffix(f"su {self.name}") + 'exec "$@"'
            argv = ["sh", "-ec", script, "sh", *argv]
        return subprocess.run(
            argv,
            cwd=cwd,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )

    def test(
        self, *words: str, cwd: Path = REPOSITORY, delegated: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run tests."""
        plain = ("pytest", "-p", "no:cacheprovider", "-q", "--carthage-strict", "--timeout=500")
        return self.run(*plain, *words, cwd=cwd, delegated=delegated)

    def remove(self, *names: str) -> None:
        """Remove folders of his own, which hold nothing that he cannot remove by ``rm``."""
        paths = [str(self.folder / name) for name in names]
        argv = ["setpriv", "--reuid", self.name, "--regid", self.name, "--clear-groups"]
        subprocess.run([*argv, "rm", "-r", "--", *paths], check=True)


@contextlib.contextmanager
def users(built: Built) -> Iterator[User]:
    """A new one, who has an image as a tar, which he can read."""
    if os.geteuid() != 0:
        pytest.skip("only root can make the account that runs this")
    if problems := user_namespace_problems():
        pytest.skip("; ".join(map(str, problems)))
    # pytest's own temporary folder is closed to others
    folder = Path(tempfile.mkdtemp(prefix="ordinary-"))
    folder.chmod(0o755)
    try:
        asyncio.run(save_tarball(built, folder / "debian.tar"))
        with account() as name:
            shutil.chown(folder, name, name)
            try:
                yield User(name, folder, folder / "debian.tar")
            finally:
                _remove_group(delegation.group_of(name))
    finally:
        shutil.rmtree(folder)


def _remove_group(name: str) -> None:
    """Remove the control group that root has given to a user, if he has."""
    # who supervised the last session may still be ending
    deadline = time.monotonic() + 30
    while True:
        groups.remove(name)
        if not any(Path(f"{top}{name}").exists() for top in groups.tops().values()):
            break
        assert time.monotonic() < deadline
        time.sleep(0.02)
