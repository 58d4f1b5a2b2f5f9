"""What modprobe runs in a machine in place of loading a module, by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pytest_carthage.fabric.container.modules import PROGRAM

_WAITING = "import sys; print(flush=True); sys.stdin.read()"


def _run(folder: Path, *words: str, removes: bool = False) -> None:
    """Run it for a process whose arguments are these."""
    with subprocess.Popen(
        [sys.executable, "-c", _WAITING, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        # the arguments of modprobe begin behind its name, and these behind three words
        program = PROGRAM.replace("-f2-", "-f7-")
        argv = ["sh", "-c", program, "sh", str(process.pid), *(["-r"] if removes else [])]
        places = {"LIST": str(folder / "modules"), "NOTES": str(folder / "notes")}
        subprocess.run(argv, env={"PATH": "/usr/bin:/bin", **places}, check=True)


def test_module_is_in_the_list_once_and_is_noted(tmp_path: Path) -> None:
    (tmp_path / "modules").write_text("loop 1 0 - Live 0x0\n")
    for _ in range(2):
        _run(tmp_path, "-q", "carthage-one", "size=2")
    names = [line.split()[0] for line in (tmp_path / "modules").read_text().splitlines()]
    assert names == ["loop", "carthage_one"]
    assert set((tmp_path / "notes").read_text().splitlines()) == {"modprobe carthage-one"}


def test_module_that_is_removed_is_not_in_the_list_any_more(tmp_path: Path) -> None:
    (tmp_path / "modules").write_text("carthage_one 1 0 - Live 0x0\n")
    _run(tmp_path, "-r", "carthage_one", removes=True)
    assert (tmp_path / "modules").read_text() == ""
    assert (tmp_path / "notes").read_text() == "modprobe -r carthage_one\n"


def test_kernel_without_a_list_gets_none(tmp_path: Path) -> None:
    _run(tmp_path, "carthage_one")
    assert not (tmp_path / "modules").exists()
    assert (tmp_path / "notes").read_text() == "modprobe carthage_one\n"
