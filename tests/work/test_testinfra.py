"""testinfra's host over a handle: first over a stand-in that runs commands on the host."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from pytest_carthage.errors import HostError
from pytest_carthage.handles.encoding import decoded, encoding_of
from pytest_carthage.handles.result import Result
from pytest_carthage.portal import Portal
from pytest_carthage.work.files.filesystem import Filesystem, FilesystemOperations
from pytest_carthage.work.files.testinfra_host import Backend, make_host


class Here:
    """A machine that is this computer; remembers what was run, and as whom."""

    name = "here"

    def __init__(self, locale: Mapping[str, str] = MappingProxyType({})) -> None:
        self.locale = locale
        self.ran: list[tuple[str, str | None]] = []

    def run(
        self,
        command: list[str],
        /,
        *,
        user: str | None = None,
        check: bool = True,
        secret: bool = False,
    ) -> Result:
        assert command[:2] == ["/bin/sh", "-c"]
        assert not check
        self.ran.append((command[2], user))
        done = subprocess.run(command, capture_output=True, check=False)
        encoding, (out, err) = decoded(encoding_of(self.locale), done.stdout, done.stderr)
        return Result(
            machine=self.name,
            command=tuple(command),
            status=done.returncode,
            stdout=out,
            stderr=err,
            encoding=encoding,
            started_at=0.0,
            duration_s=0.0,
            user=user,
        )


def test_host_without_testinfra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pytest_carthage.work.files.testinfra_host", raising=False)
    for module in [name for name in sys.modules if name.partition(".")[0] == "testinfra"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "path", [])
    portal = Portal()
    try:
        filesystem = Filesystem(FilesystemOperations("web", who="machine 'web'", portal=portal))
        with pytest.raises(HostError) as caught:
            print(filesystem.host)
    finally:
        portal.close()
    assert str(caught.value) == (
        "this host lacks:\n"
        f"  testinfra: the host of machine 'web' is testinfra's, which {sys.executable} does not "
        "have; try: pip install 'pytest-carthage[testinfra]'"
    )


def test_assertion_is_one_command(tmp_path: Path) -> None:
    machine = Here()
    host = make_host(machine)
    (tmp_path / "it's").touch()
    assert host.system_info.type == "linux"  # detected once
    machine.ran.clear()
    for _ in range(3):
        assert host.file(f"{tmp_path}/it's").exists
    assert not host.file(f"{tmp_path}/other").exists
    assert len(machine.ran) == 4


def test_result_is_testinfras_own() -> None:
    host = make_host(Here())
    done = host.run("echo %s; echo oh >&2; exit 3", "a b")
    assert (done.rc, done.stdout, done.stderr) == (3, "a b\n", "oh\n")
    assert done.failed
    assert host.check_output("printf 'é\\n'") == "é"


def test_command_ended_by_a_signal_has_a_shells_status() -> None:
    assert make_host(Here()).run("kill -KILL $$").rc == 137


def test_content_is_kept_byte_for_byte(tmp_path: Path) -> None:
    data = bytes(range(256))
    (tmp_path / "file").write_bytes(data)
    (tmp_path / "text").write_text("naïve\n", encoding="utf-8")
    machine = Here()
    host = make_host(machine)
    assert host.system_info.type == "linux"
    machine.ran.clear()
    assert host.file(f"{tmp_path}/file").content == data
    assert host.file(f"{tmp_path}/text").content_string == "naïve\n"
    assert len(machine.ran) == 2, "the encoding is not asked for"


def test_output_that_is_no_text_is_no_exception(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"caf\xe9")
    assert make_host(Here()).file(f"{tmp_path}/file").content_string == "caf\udce9"
    done = make_host(Here()).run(r"printf 'caf\351'; printf '\377' >&2")
    assert (done.stdout, done.stderr) == ("caf\udce9", "\udcff")
    assert (done.stdout_bytes, done.stderr_bytes) == (b"caf\xe9", b"\xff")
    latin = make_host(Here({"LC_CTYPE": "fr_FR.ISO-8859-1", "LANG": "C.UTF-8"}))
    assert latin.file(f"{tmp_path}/file").content_string == "café"


def test_sudo_changes_the_user_without_a_sudo() -> None:
    machine = Here()
    host = make_host(machine)
    with host.sudo("postgres"):
        host.run("id -un %s", "a b")
        with host.sudo("nobody"):
            host.run("one")
        with host.sudo():
            host.run("two")
    host.run("three")
    assert machine.ran == [
        ("id -un 'a b'", "postgres"),
        ("one", "nobody"),
        ("two", "root"),
        ("three", None),
    ]


def test_host_of_a_user_runs_all_as_that_one() -> None:
    machine = Here()
    host = make_host(machine, "app")
    host.run("one")
    with host.sudo():
        host.run("two")
    with host.sudo("www"):
        host.run("three")
    assert machine.ran == [("one", "app"), ("two", "root"), ("three", "www")]
    assert repr(host) == "<testinfra.host.Host carthage://app@here>"


def test_host_says_which_machine_it_is() -> None:
    host = make_host(Here())
    assert repr(host) == "<testinfra.host.Host carthage://here>"
    assert isinstance(host.backend, Backend)


def test_modules_that_read_the_system_work() -> None:
    host = make_host(Here())
    assert host.system_info.type == "linux"
    assert host.user("root").uid == 0
    assert host.group("root").gid == 0
    assert host.environment()["PATH"]
    assert host.file("/etc/passwd").is_file
    assert host.file("/etc/passwd").contains("root")
    assert host.mount_point("/proc").filesystem == "proc"
    me = pwd.getpwuid(os.getuid()).pw_name
    assert host.user().name == me
    with pytest.raises(AssertionError, match="Unexpected exit code 1"):
        host.check_output("false")
