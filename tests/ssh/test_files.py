"""Files of a machine that has no sftp-server, by the real scp and sftp of this host."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage.store.built import Built
from tests.providers.conftest import built
from tests.ssh.conftest import Hosts, hosts_of
from tests.support.host import netns_lacks

__all__ = ["built"]

pytestmark = pytest.mark.real

LAYOUTS = """
from pytest_carthage import Layout, Machine
from tests.providers.conftest import DEBIAN


class Pair(Layout):
    box = Machine(DEBIAN)
"""
BLOB = os.urandom(3 << 20)


@pytest.fixture(scope="module")
def box(built: Built) -> Iterator[Hosts]:
    if problems := netns_lacks():
        pytest.skip("; ".join(map(str, problems)))
    if shutil.which("sftp") is None:
        pytest.skip("no sftp on this host; try: apt install openssh-client")
    with hosts_of(LAYOUTS) as hosts:
        assert hosts.ssh("box", "test -e /usr/lib/openssh/sftp-server").returncode == 1
        assert hosts.ssh("box", "useradd --create-home carol").returncode == 0
        (hosts.folder / "blob").write_bytes(BLOB)
        yield hosts


def sftp(box: Hosts, user: str, *lines: str) -> tuple[int, str, str]:
    """Have sftp(1) do things one after the other."""
    script = "".join(f"{line}\n" for line in lines).encode()
    done = box.run(["sftp", "-q", "-F", str(box.config), "-b", "-", f"{user}@box"], input=script)
    return done.returncode, done.stdout, done.stderr


def test_scp_copies_both_ways_with_modes_and_times(box: Hosts) -> None:
    (box.folder / "blob").chmod(0o750)
    os.utime(box.folder / "blob", (1_000_000_000, 1_000_000_000))
    for words in (["blob", "carol@box:there"], ["carol@box:there", "back"]):
        done = box.run(["scp", "-q", "-p", "-F", str(box.config), *words])
        assert (done.returncode, done.stderr) == (0, "")
    back = box.folder / "back"
    assert back.read_bytes() == BLOB
    assert (back.stat().st_mode & 0o777, back.stat().st_mtime) == (0o750, 1_000_000_000)
    assert box.ssh("box", "stat -c %U:%G:%a ~carol/there").stdout == "carol:carol:750\n"


def test_scp_copies_a_tree(box: Hosts) -> None:
    tree = box.folder / "tree"
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/b/c").write_text("c")
    done = box.run(["scp", "-q", "-r", "-F", str(box.config), "tree", "box:~/t"])
    assert (done.returncode, done.stderr) == (0, "")
    assert box.ssh("box", "cat /root/t/a/b/c").stdout == "c"


def test_user_has_his_own_rights_and_no_others(box: Hosts) -> None:
    for lines, words in (
        (["put blob /root/x"], "Permission denied"),
        (["get /etc/shadow"], "Permission denied"),
        (["chown 0 /home/carol"], "Permission denied"),
        (["rm /etc/passwd"], "Permission denied"),
    ):
        status, _, err = sftp(box, "carol", *lines)
        assert words in err
        assert status == 1
    assert sftp(box, "root", "get /etc/shadow")[0] == 0


def test_what_clients_do_with_files_and_folders(box: Hosts) -> None:
    status, out, err = sftp(
        box,
        "carol",
        "pwd",
        "mkdir d",
        "put blob d/x",
        "chmod 600 d/x",
        "ln -s x d/soft",
        "ln d/x d/hard",
        "rename d/x d/y",
        "ls -l d",
        "df",
        "rm d/soft",
        "rm d/hard",
        "rm d/y",
        "rmdir d",
    )
    assert (status, err) == (0, "")
    assert "/home/carol" in out
    assert "-rw-------    2 carol    carol     3145728 " in out
    assert "lrwxrwxrwx    1 carol    carol           1 " in out
    assert box.ssh("box", "ls ~carol/d").returncode == 2


def test_service_is_a_process_of_the_user_in_the_machine_and_ends(box: Hosts) -> None:
    look = "ps -o user=,comm=,args= -C sftp-server"
    status, out, err = sftp(box, "carol", f"!ssh -F {box.config} box {look}")
    assert status == 0, err
    assert out.splitlines()[-1].split()[:2] == ["carol", "sftp-server"]
    assert box.ssh("box", look).stdout == ""
    assert not Path("/home/carol").exists()
