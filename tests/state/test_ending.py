"""What the end of a fabric leaves on this host is removed, or told of."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage.fabric.limits import control_group
from pytest_carthage.state import cgroups, ending, journal, places
from pytest_carthage.state.sweeping import Failed, Sweep


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_end_of_killed_processes_is_awaited(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    assert ending.await_end([sleeper.pid]) == ""
    sleeper.wait()
    assert ending.await_end([sleeper.pid]) == ""


def test_process_that_does_not_end_is_told_of(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "_END_S", 0.05)
    assert ending.await_end([sleeper.pid]) == (
        f"process {sleeper.pid} was killed, and has not ended in 0.05 s"
    )


def test_folder_is_removed_and_to_remove_it_twice_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "run/envs/a").mkdir(parents=True)
    (tmp_path / "run/envs/a/log").write_text("text")
    assert ending.remove_run(tmp_path / "run") == ""
    assert not (tmp_path / "run").exists()
    assert ending.remove_run(tmp_path / "run") == ""


def test_folder_that_cannot_be_removed_is_told_of_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run/busy").mkdir(parents=True)
    (tmp_path / "run/other").touch()
    rmdir = os.rmdir

    def refuse(path: str, *, dir_fd: int | None = None) -> None:
        if path == "busy":
            raise OSError(16, "Device or resource busy", path)
        rmdir(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "rmdir", refuse)
    # from Python 3.13 on the folder is named from the root
    assert (ending.remove_run(tmp_path / "run") or "").replace(f"{tmp_path}/run/busy", "busy") == (
        f"{tmp_path / 'run'} cannot be removed: [Errno 16] Device or resource busy: 'busy'"
    )
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["busy"]


def test_folder_stays_for_who_has_to_destroy_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("needed", "free"):
        (tmp_path / "envs" / name).mkdir(parents=True)
    left = Failed(journal.fabric("r", "needed") | {"kind": "cloud", "name": "web"}, "busy")
    sweep = Sweep([], tmp_path / "log")
    monkeypatch.setattr(sweep, "run", lambda: [left])
    assert ending.clean("r", tmp_path, sweep, ["needed", "free"]) == [left]
    assert [path.name for path in (tmp_path / "envs").iterdir()] == ["needed"]


# control groups


@pytest.fixture
def group() -> Iterator[str]:
    """A control group with one below, in every hierarchy that takes it; for root."""
    path = control_group(secrets.token_hex(4), "test")
    made = []
    for root in cgroups.roots():
        try:
            Path(f"{root}{path}/below").mkdir(parents=True)
            made.append(root)
        except OSError:
            continue
    if not made:
        pytest.skip("no control groups can be made here")
    yield path
    cgroups.remove(path)


def test_control_group_is_removed_with_those_below_and_its_processes(
    group: str, sleeper: subprocess.Popen[bytes]
) -> None:
    for folder in cgroups.find(group):
        try:
            Path(f"{folder}/below/cgroup.procs").write_text(str(sleeper.pid))
        except OSError:
            continue  # cpuset takes nobody before it is set up
    assert cgroups.remove(group)
    assert cgroups.find(group) == []
    assert sleeper.wait(5) == -9


def test_control_group_that_is_in_use_is_told_of(
    group: str,
    sleeper: subprocess.Popen[bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cgroups, "remove", lambda path: False)
    run = group.rpartition("-")[2]
    (tmp_path / "envs/test").mkdir(parents=True)
    assert ending.remove_remains(run, tmp_path, "test") == f"control group {group} is in use"
    assert (tmp_path / "envs/test").exists()


def test_control_group_of_another_run_is_left_alone(group: str) -> None:
    assert cgroups.remove(control_group("another", "test"))
    assert cgroups.find(group) != []


def test_control_group_that_stays_busy_is_not_waited_for_for_ever(
    group: str, sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    entered = 0
    for folder in cgroups.find(group):
        try:
            Path(f"{folder}/below/cgroup.procs").write_text(str(sleeper.pid))
            entered += 1
        except OSError:
            continue
    assert entered
    with monkeypatch.context() as patch:
        patch.setattr(cgroups, "_kill", lambda folder: None)
        assert not cgroups.remove(group, timeout_s=0.1)
    assert sleeper.poll() is None


@pytest.mark.parametrize("name", ["..", "../other", "", ".", "/"])
def test_folder_outside_of_its_run_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(shutil, "rmtree", lambda *args, **more: pytest.fail("it would be removed"))
    monkeypatch.setattr(cgroups, "find", lambda path: [])
    problem = ending.remove_remains("abc", tmp_path, name)
    assert "is no folder below" in problem
    assert problem.endswith("and nothing is removed")


@pytest.mark.parametrize(
    "path",
    ["", "/", "/..", "/system", "/pytest-carthage-a/..", "/pytest-carthage-a/../../x", "/a//b"],
)
def test_control_group_of_others_is_neither_looked_for_nor_removed(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "rmdir", lambda *args, **more: pytest.fail("it would be removed"))
    monkeypatch.setattr(os, "kill", lambda *args: pytest.fail("somebody would be killed"))
    with pytest.raises(ValueError, match="is none of ours"):
        cgroups.remove(path)


def test_run_whose_identity_is_none_has_no_control_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "rmdir", lambda *args, **more: pytest.fail("it would be removed"))
    (tmp_path / "id").write_text("abc/../..")
    assert places.run_id(tmp_path) == ""
    assert ending.remove_remains("abc/../..", tmp_path, "a").endswith(
        "is none of ours, and is left alone"
    )
