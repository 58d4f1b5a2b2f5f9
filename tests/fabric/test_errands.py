"""Programs of the host in a fabric, with mounts of their own."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from pytest_carthage.fabric.wire.client import Refused
from tests.fabric.bare import Fabric
from tests.fabric.processes import begins, ends, marker

pytestmark = pytest.mark.real

ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "WHO": "me"}


def printed(log: Path, text: str, limit_s: float = 10.0) -> str:
    """What a program printed, once this is in it."""
    deadline = time.monotonic() + limit_s
    while (not log.exists() or text not in log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return log.read_text()


def test_spawned_program_has_its_environment_folder_and_log(fabric: Fabric, tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = "echo $WHO in $(pwd); echo oops >&2; kill -PIPE $$"
    reply = fabric.ask("spawn", argv=["sh", "-c", script], env=ENV, log=str(log), cwd=str(tmp_path))
    assert reply["pid"] > 1
    assert printed(log, "oops") == f"me in {tmp_path}\noops\n"
    assert log.stat().st_mode & 0o777 == 0o600


def test_spawned_program_sees_private_mounts_and_nobody_else_does(
    fabric: Fabric, tmp_path: Path
) -> None:
    for name in ("real", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    mount = {"source": str(tmp_path / "other"), "target": str(tmp_path / "real")}
    log = tmp_path / "log"
    script = "cat file; touch new && echo written; echo end"
    for read_only in (True, False):
        fabric.ask(
            "spawn",
            argv=["sh", "-c", script],
            env=ENV,
            log=str(log),
            cwd=str(tmp_path / "real"),
            mounts=[{**mount, "read_only": read_only}],
        )
        text = printed(log, "end")
        assert text.startswith("other")
        assert ("written" in text) is not read_only
        log.unlink()
    assert (tmp_path / "real/file").read_text() == "real"
    assert sorted(path.name for path in (tmp_path / "real").iterdir()) == ["file"]
    assert (tmp_path / "other/new").exists()


def test_spawned_program_with_mounts_sees_what_is_mounted_later_for_machines(
    fabric: Fabric, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounts an overlay as root")
    for name in ("layer/tree", "upper", "work", "a", "b"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "layer/tree/file").write_text("of the image")
    log = tmp_path / "log"
    script = "until cat /run/carthage-roots/web/file 2>/dev/null; do sleep 0.05; done"
    fabric.ask(
        "spawn",
        argv=["sh", "-c", script],
        env=ENV,
        log=str(log),
        mounts=[{"source": str(tmp_path / "a"), "target": str(tmp_path / "b"), "read_only": False}],
    )
    fabric.make("web", kind="namespace")
    folders = {name: str(tmp_path / name) for name in ("upper", "work")}
    fabric.ask("root", machine="web", lower=[str(tmp_path / "layer/tree")], **folders)
    assert printed(log, "image") == "of the image"


@pytest.mark.parametrize(
    ("argv", "mounts", "message", "number"),
    [
        (["/no-such"], [], "No such file or directory: '/no-such'", errno.ENOENT),
        (["/etc/passwd"], [], "Permission denied: '/etc/passwd'", errno.EACCES),
        (
            ["true"],
            [{"source": "/no-such", "target": "/mnt", "read_only": False}],
            "No such file or directory, of /no-such: '/mnt'",
            errno.ENOENT,
        ),
    ],
)
def test_program_that_cannot_be_spawned_is_refused_with_the_reason(
    fabric: Fabric,
    tmp_path: Path,
    argv: list[str],
    mounts: list[dict[str, object]],
    message: str,
    number: int,
) -> None:
    with pytest.raises(Refused) as caught:
        fabric.ask("spawn", argv=argv, env=ENV, log=str(tmp_path / "log"), mounts=mounts)
    assert message in str(caught.value)
    assert caught.value.errno == number


def test_program_inside_runs_in_the_network_of_its_machine(fabric: Fabric, tmp_path: Path) -> None:
    fabric.ask("networks", networks=[{"bridge": "br-lan", "mtu": None, "kind": "bridged"}])
    fabric.make("web", links=[{"network": "lan", "addresses": ["10.0.0.1/24"]}])
    with (tmp_path / "out").open("w+b") as file, fabric.client() as asking:
        fds = (file.fileno(),) * 3
        for machine, shown in (("web", b"10.0.0.1/24"), (None, b"br-lan")):
            argv = ["ip", "-brief", "address"]
            reply, _ = asking.request("inside", fds=fds, machine=machine, argv=argv, env=ENV)
            assert reply["status"] == 0
            file.seek(0)
            assert shown in file.read()
            file.truncate(0)
        reply, _ = asking.request("inside", fds=fds, argv=["sh", "-c", "exit 7"], env=ENV)
        assert reply["status"] == 7


def test_spawned_program_ends_with_the_fabric(fabric: Fabric, tmp_path: Path) -> None:
    mark = marker()
    fabric.ask("spawn", argv=["sleep", mark], env=ENV, log=str(tmp_path / "log"))
    assert begins(mark)
    fabric.end()
    assert ends(mark)
