"""Layouts that are built under awkward names of folders, locales and a strict umask."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_carthage.fabric.host.privilege import is_privileged
from tests.support.host import netns_lacks
from tests.support.unprivileged import REPOSITORY

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not is_privileged(), reason="layers are unpacked as root"),
]

PLAIN_C = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
LATIN = {"LC_ALL": "de_DE.ISO-8859-1", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

CONFTEST = """
from pytest_carthage import Image, Layout, Machine, Network, log


class Pair(Layout):
    lan = Network("10.0.0.0/24")
    tiny = Image.rootfs(TREE, name="tiny")
    left = Machine(
        links={"eth0": lan.at(".1")},
        command=["sh", "-c", "printf 'f\\\\303\\\\274r alle\\\\n'; exec sleep 1000"],
        wait_for=log("für alle"),
        env={"GRUSS": "Grüße"},
    )
    boxed = Machine(tiny, links={"eth0": lan.at(".2")})


pair = Pair.fixture()
"""

TEST = r"""
def test_use(pair, tmp_path):
    source = tmp_path / "a $HOME,b:c\\d"
    source.write_text("ü", encoding="utf-8")
    for machine in (pair.left, pair.boxed):
        assert machine.run("echo für").stdout == "für\n"
        machine.put(source, "/tmp/für,:\\$ 😀")
        assert machine.read_text("/tmp/für,:\\$ 😀") == "ü"
        machine.get("/tmp/für,:\\$ 😀", tmp_path / "back")
        machine.stop()
        machine.start()
        assert machine.run("umask").stdout == "0022\n"
    assert pair.left.run("echo $GRUSS").stdout == "Grüße\n"
    assert "für alle" in pair.left.logs()
    assert pair.left.ping("10.0.0.2") < 5
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a shell and little else: it is not what is built that counts here."""
    root = tmp_path_factory.mktemp("root")
    for name in ("bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "var"):
        (root / name).mkdir()
    for name in ("sh", "cat", "sleep"):
        program = Path(shutil.which(name) or "").resolve()
        shutil.copy2(program, root / "bin" / name)
        linked = subprocess.check_output(["ldd", program], text=True)
        for library in (word for word in linked.split() if word.startswith("/")):
            (root / library[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(library, root / library[1:])
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    return root


def run_suite(tree: Path, top: Path, env: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    """Run a suite whose folder, state, images and home are below a folder, with umask 077."""
    suite = top / "suite"
    suite.mkdir(parents=True)
    conftest = CONFTEST.replace("TREE", repr(str(tree)))
    (suite / "conftest.py").write_text(conftest, encoding="utf-8")
    (suite / "test_use.py").write_text(TEST, encoding="utf-8")
    (suite / "pytest.ini").write_text("[pytest]\n")
    plain = {name: os.environ[name] for name in ("PATH",)}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:randomly"],
        cwd=suite,
        env={
            **plain,
            "PYTHONPATH": str(REPOSITORY),
            "CARTHAGE_STATE": str(top / "state"),
            "CARTHAGE_IMAGES": str(top / "images"),
            "HOME": str(top / "home"),
            **env,
        },
        capture_output=True,
        check=False,
        umask=0o077,
    )


@pytest.mark.parametrize(
    ("name", "env"),
    [
        ("a:b,c", {}),
        (r"a\b", {"LC_ALL": "C.UTF-8"}),
        ("$HOME and `it`", PLAIN_C),
        ("ü 😀", {"LANG": "C.UTF-8"}),
        ("two\nlines", {"LANG": "", "LANGUAGE": "xx:yy"}),
        ("plain", LATIN),
    ],
    ids=["options", "backslash", "shell in C", "emoji", "newline without a locale", "latin-1"],
)
def test_layout_is_built_wherever_it_is(
    tree: Path, tmp_path: Path, name: str, env: dict[str, str]
) -> None:
    if problems := netns_lacks():
        pytest.skip("; ".join(map(str, problems)))
    if env is LATIN:
        env = {**env, "LOCPATH": str(latin_locale(tmp_path))}
    done = run_suite(tree, tmp_path / name, env)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


def latin_locale(folder: Path) -> Path:
    """Where a locale is that is not UTF-8."""
    target = folder / "locales" / "de_DE.ISO-8859-1"
    target.parent.mkdir()
    argv = ["localedef", "-i", "de_DE", "-f", "ISO-8859-1", str(target)]
    if shutil.which("localedef") is None:
        pytest.skip("no localedef, of Debian's package locales")
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if not target.exists():
        pytest.skip(f"no such locale can be made here: {done.stderr}")
    return target.parent


@pytest.mark.parametrize(
    ("variable", "what"),
    [("CARTHAGE_STATE", "the folder of runs"), ("CARTHAGE_IMAGES", "the folder of images")],
)
def test_folder_that_python_cannot_name_in_utf8_is_refused_by_name(
    tree: Path, tmp_path: Path, variable: str, what: str
) -> None:
    done = run_suite(tree, tmp_path, {**PLAIN_C, variable: str(tmp_path / "ü")})
    said = " ".join(done.stdout.decode(errors="replace").split())
    assert done.returncode != 0
    assert f"{what} ({variable}) " in said
    assert "has characters beyond ASCII" in said
    assert "try: PYTHONUTF8=1, LC_ALL=C.UTF-8, or another folder" in said
