"""Machines have nothing of who started pytest: no niceness, no limits, no umask of his."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pytest_carthage.store.built import Built
from tests.providers.look import FACTS, TOKEN
from tests.support.unprivileged import REPOSITORY, as_user

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

#: begins a program in a way that shows
ODD = (
    "prlimit --nofile=700: --core=5000: --cpu=9000: --as=90000000000: --nproc=9000:"
    " setarch -R ionice -c3 taskset -c 0 chrt -b 0 nice -n 5"
).split()
ODD += [
    "sh",
    "-c",
    "umask 077; echo 300 > /proc/self/oom_score_adj; trap '' HUP INT QUIT PIPE TERM USR1;"
    ' exec "$@"',
    "sh",
]

EXPECTED = {
    "niceness": "0",
    "policy": "0",
    "io": "none: prio 0",
    "oom_score_adj": "0",
    "personality": "00000000",
    "coredump_filter": "00000033",
    "timer slack": "50000",
    "umask": "0022",
    "files": "1024",
    "core": "0",
    "time": "unlimited",
    "memory": "unlimited",
}


def expected() -> dict[str, str]:
    """What is so on any host, and what is so on this one."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    processes = int(Path("/proc/sys/kernel/threads-max").read_text()) // 2
    nproc = ["taskset", "-c", f"0-{(os.cpu_count() or 1) - 1}", "nproc"]
    return {
        **EXPECTED,
        "files, hard": str(min(files, 524_288)),
        "processes": str(processes),
        "processors": subprocess.check_output(nproc, text=True).strip(),
    }


def look(layout: str, *, odd: bool, folder: Path, user: bool = False) -> dict[str, dict[str, str]]:
    """What processes of machines have whose layout is built by who was begun in an odd way, or not.

    :param user: it is an ordinary one.
    """
    argv = [*(ODD if odd else ()), sys.executable, "-m", "tests.providers.look", layout]
    done = subprocess.run(
        as_user(argv, home=folder) if user else argv,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "CARTHAGE_STATE": str(folder / "state"), **dict([TOKEN.split("=")])},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    if layout == "processes":
        return dict(said)
    return {who: dict(zip(FACTS, lines, strict=True)) for who, lines in said.items()}


@pytest.mark.skipif(os.geteuid() != 0, reason="machines with images are built by root")
def test_processes_of_machines_have_nothing_of_who_started_them(
    built: Built, tmp_path: Path
) -> None:
    seen = look("all", odd=True, folder=tmp_path)
    assert set(seen) == {"bare", "plain", "booted", "main process", "unit"}
    for who, facts in seen.items():
        assert facts == expected(), who


def test_ordinary_user_may_not_take_back_what_was_taken() -> None:
    with tempfile.TemporaryDirectory() as name:
        plain = look("bare", odd=False, folder=Path(name), user=True)["command"]
        odd = look("bare", odd=True, folder=Path(name), user=True)["command"]
    assert odd["niceness"] == "5"
    kept = {"niceness"}
    assert {name for name in FACTS if odd[name] != plain[name]} == kept


#: signals that Python ignores, and gives back to what it starts: SIGPIPE, SIGXFSZ
PYTHON_IGNORES = 1 << 12 | 1 << 24
#: and those that must not end what looks after the others: SIGHUP, SIGINT
GUARDS_IGNORE = PYTHON_IGNORES | 1 << 0 | 1 << 1


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user may not look into agents")
def test_processes_of_a_run_have_nothing_of_their_starter(tmp_path: Path) -> None:
    plain = look("processes", odd=False, folder=tmp_path / "plain")
    odd = look("processes", odd=True, folder=tmp_path / "odd")
    ignored = {
        "carthage-super": GUARDS_IGNORE,
        "carthage-fabric": GUARDS_IGNORE,
        "cg:bare": PYTHON_IGNORES,
        "sleep": 1 << 1 | 1 << 2,  # by its shell: it is in the background, see sh(1p)
    }
    assert set(odd) == set(ignored)
    for name, facts in odd.items():
        begun = "PATH LANG" if name != "sleep" else "PATH HOME USER LOGNAME SHELL LANG PWD _"
        assert set(facts.pop("environ").split()) <= set(begun.split()), name
        assert int(facts["SigIgn"], 16) == ignored[name], name
        assert {
            "Umask": "0022",
            "SigBlk": "0" * 16,
            "NoNewPrivs": "0",
            "CapAmb": "0" * 16,
            "oom_score_adj": "0",
            "personality": "00000000",
            "timer slack": "50000",
            "niceness": "0",
            "policy": "0",
            "descriptors of others": "",
            "token in memory": "False",
        }.items() <= facts.items(), name
        for fact in ("limits", "cgroup", "Cpus_allowed_list"):
            same = plain[name][fact], facts[fact]
            assert without_mark(same[0]) == without_mark(same[1]), (name, fact)
    assert odd["sleep"]["read in the machine"] == "False"


def without_mark(text: str) -> list[str]:
    """Without the limit by which a command's processes are known, see fabric/descent.py."""
    return [line for line in text.splitlines() if not line.startswith("Max file locks")]
