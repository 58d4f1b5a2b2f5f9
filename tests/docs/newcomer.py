"""Somebody new: a fresh clone, a fresh home and a virtual environment of Debian's Python."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pyte

from tests.docs.console import Typed, differs
from tests.suites.conftest import uv
from tests.support.shelf import tiny_system
from tests.support.unprivileged import REPOSITORY, account

__all__ = ["PYTHON", "Newcomer", "newcomer"]

#: Debian's own, which everybody may run
PYTHON = Path("/usr/bin/python3")

#: what pages call a machine, a network or a class, all of it
SUITE = '''\
"""A layout for whatever the documentation types."""

from pytest_carthage import Image, Layout, Machine, Network


class Shop(Layout):
    lan = Network("10.0.0.0/24")
    dmz = Network("192.0.2.0/24")

    tiny = Image.rootfs("system")

    web = Machine(links={"eth0": dmz.at(".20")}, command="sh -c 'echo open; exec sleep 1000'")
    db = Machine(links={"eth0": dmz.at(".10"), "eth1": lan.at(".10")})


class Branch(Shop):
    """The same by another name."""


shop = Shop.fixture()
'''
TESTS = """\
import os


def test_shop_is_open(shop):
    assert shop.web.ping("db") < 5
    assert "BROKEN" not in os.environ
"""


class Newcomer:
    """Types what pages say."""

    def __init__(self, folder: Path, user: str | None, venv: Path) -> None:
        self.folder = folder
        self.venv = venv
        #: his ids, which hold whatever other tests do to accounts meanwhile
        self.ids = None if user is None else pwd.getpwnam(user)[2:4]
        self.clone = folder / "clone"
        self.home = folder / "home"
        self.home.mkdir()
        _clone(self.clone)
        self._own(folder)

    def suite(self, name: str, *, tree: str | None = None) -> Path:
        """A folder with a suite: a copy of one, or one that pages can be typed in."""
        path = self.folder / name
        if tree is not None:
            shutil.copytree(self.clone / tree, path)
        else:
            path.mkdir()
            (path / "conftest.py").write_text(SUITE)
            (path / "test_shop.py").write_text(TESTS)
            tiny_system(path / "system")
        self._own(path)
        return path

    def run(
        self,
        line: str,
        cwd: Path | None = None,
        *,
        env: Mapping[str, str] | None = None,
        terminal: str | None = None,
        timeout_s: float = 200.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a line of a shell in the virtual environment.

        :param terminal: on a terminal, on which this is typed.
        """
        if terminal is not None:
            line = f"script -qec {shlex.quote('stty cols 80; ' + line)} /dev/null"
        activate = f". {self.venv}/bin/activate; " if self._is_set_up else ""
        variables = {
            "HOME": str(self.home),
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "TERM": "xterm",
            # pip asks whichever registry this host does
            **{key: value for key, value in os.environ.items() if key.startswith("PIP_")},
            **self._folders,
            **(env or {}),
        }
        argv = ["env", "-i", *(f"{key}={value}" for key, value in variables.items())]
        if self.ids is not None:
            user, group = map(str, self.ids)
            argv = ["setpriv", "--reuid", user, "--regid", group, "--clear-groups", *argv]
        return subprocess.run(
            [*argv, "bash", "-c", activate + line],
            cwd=cwd or self.clone,
            input=terminal or "",
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def type(self, typed: Typed, cwd: Path | None = None, **said: str) -> str:
        """Type a line, which has to go well and to print what its page shows.

        :param said: what stands for words in capitals, as ``NAME``.
        """
        line = typed.line
        for word, meaning in said.items():
            line = re.sub(rf"\b{word}\b", meaning, line)
        fails = "--keep-on-fail" in line
        terminal = "exit 0\n" if typed.printed or " shell " in line else None
        done = self.run(line, cwd, env={"BROKEN": "1"} if fails else None, terminal=terminal)
        printed = (done.stdout if terminal is None else _shown(done.stdout)) + done.stderr
        # these two say by their status whether this host has all that is needed
        asks = re.match(r"pytest-carthage (doctor|plan)\b", line)
        good = {0, 1} if asks else {int(fails)}
        assert done.returncode in good, f"{typed.page}: {line}: {done.returncode}\n{printed}"
        assert "Traceback" not in printed, f"{typed.page}: {line}\n{printed}"
        difference = differs(typed.printed, printed)
        assert not difference, f"{typed.page}: {line}: shows {difference}\n{printed}"
        return printed

    def install(self, extras: Iterable[str]) -> None:
        """Install by pip what the first page says, and by uv, which is quicker, all extras.

        If there is a virtual environment already, it becomes his, and pip finds there what others
        do not make anew: all but this project.
        """
        extras = set(extras)
        if self._is_set_up:
            self._own(self.venv)
        else:
            self._own(self.venv.parent)
            self._do(f"{PYTHON} -m venv {self.venv}")
        self._do("pip install --quiet '.[testinfra]'")
        python = self.venv / "bin/python"
        if "libvirt" in extras:
            # who runs these tests has compiled it, and his pip has kept that; uv would not look
            compiled: list[str | Path] = [python, "-m", "pip", "install", "-q", "libvirt-python>=9"]
            subprocess.run(compiled, check=True, timeout=600)
        uv("pip", "install", "--quiet", "--python", python, f"{self.clone}[{','.join(extras)}]")
        # Python keeps there what it has compiled
        self._own(self.venv)

    def environment(self) -> str:
        """Name of the environment that is alive."""
        (name,) = re.findall(r"\b[a-z]{6}-\w+\b", self.run("pytest-carthage ls").stdout)[:1]
        return str(name)

    def _do(self, line: str) -> None:
        done = self.run(line)
        assert done.returncode == 0, done.stdout + done.stderr

    def _own(self, path: Path) -> None:
        if self.ids is not None:
            subprocess.run(["chown", "-R", "{}:{}".format(*self.ids), path], check=True)

    @property
    def _is_set_up(self) -> bool:
        return (self.venv / "bin/pip").exists()

    @property
    def _folders(self) -> dict[str, str]:
        """Where root's state is: not where other tests have theirs; a user's is in his home."""
        if os.geteuid() == 0 and self.ids is None:
            return {
                "CARTHAGE_STATE": str(self.folder / "state"),
                "CARTHAGE_IMAGES": str(self.folder / "images"),
            }
        return {}


@contextlib.contextmanager
def newcomer(*, root: bool, venv: Path) -> Iterator[Newcomer]:
    """One of them, gone at the end with all that was set up, but for the virtual environment.

    :param venv: where that is, or will be when something is installed.
    """
    with contextlib.ExitStack() as stack:
        name = tempfile.mkdtemp(prefix="newcomer-")
        stack.callback(shutil.rmtree, name, ignore_errors=True)
        Path(name).chmod(0o755)
        user = stack.enter_context(account()) if os.geteuid() == 0 and not root else None
        person = Newcomer(Path(name), user, venv)
        stack.callback(person.run, "pytest-carthage rm --all", timeout_s=100)
        yield person


def _clone(target: Path) -> None:
    """What git has of this repository, and what it would take: as the next clone is."""
    listing = ["git", "-C", str(REPOSITORY), "ls-files", "-z", "--cached", "--others"]
    done = subprocess.run([*listing, "--exclude-standard"], capture_output=True, check=True)
    for name in filter(None, done.stdout.decode().split("\0")):
        source, copy = REPOSITORY / name, target / name
        if source.exists() or source.is_symlink():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy, follow_symlinks=False)


def _shown(text: str) -> str:
    """What is left on a terminal of what was written to it: a live table is gone."""
    screen = pyte.Screen(400, text.count("\n") + 50)
    # read as text, it has no returns any more
    pyte.Stream(screen).feed(re.sub(r"(?<!\r)\n", "\r\n", text))
    return "\n".join(line.rstrip() for line in screen.display).rstrip()
