"""What a deputy has a machine's shell do, run by this host's: status, and the error by its name."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pytest_carthage.channels import scripts
from tests.channels.alone import ME


def sh(script: str, *words: str | Path, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = scripts.shell(script, *map(str, words))
    return subprocess.run(command, input=input, capture_output=True, timeout=20, check=False)


def number(done: subprocess.CompletedProcess[bytes]) -> int | None:
    """The number of the error that a script told, as a deputy takes it."""
    assert done.returncode != 0
    with pytest.raises(OSError) as caught:
        scripts.check(done.returncode, done.stderr, "/path")
    return caught.value.errno


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A file, a folder, a link and a name that takes care."""
    (tmp_path / "file").write_text("content")
    (tmp_path / "folder").mkdir()
    (tmp_path / "-n $(x) 'q'").write_text("odd")
    (tmp_path / "link").symlink_to("file")
    return tmp_path


ODD = "-n $(x) 'q'"


# reading


def test_content_is_printed_as_it_is(tree: Path) -> None:
    (tree / "file").write_bytes(bytes(range(256)))
    assert sh(scripts.READ, tree / "file").stdout == bytes(range(256))
    assert sh(scripts.READ, tree / "link").stdout == bytes(range(256))
    assert sh(scripts.READ, tree / ODD).stdout == b"odd"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("none", errno.ENOENT),
        ("none/below", errno.ENOENT),
        ("file/below", errno.ENOTDIR),
        ("folder", errno.EISDIR),
        ("pipe", errno.EINVAL),
        ("/dev/zero", errno.EINVAL),
    ],
)
def test_what_cannot_be_read_is_told_by_name(tree: Path, path: str, expected: int) -> None:
    os.mkfifo(tree / "pipe")
    assert number(sh(scripts.READ, tree / path)) == expected


def test_status_has_five_numbers(tree: Path) -> None:
    mode, uid, gid, size, _ = sh(scripts.STAT, tree / "link").stdout.split()
    info = (tree / "file").stat()
    assert (int(mode, 16), int(uid), int(gid), int(size)) == (
        info.st_mode,
        info.st_uid,
        info.st_gid,
        7,
    )
    assert number(sh(scripts.STAT, tree / "none")) == errno.ENOENT


def test_names_are_listed_whatever_they_are(tree: Path) -> None:
    (tree / "folder" / "a\nb").touch()
    (tree / "folder" / ".hidden").touch()
    names = sh(scripts.LIST, tree / "folder").stdout.split(b"\0")
    assert sorted(names) == [b"", b".hidden", b"a\nb"]
    assert number(sh(scripts.LIST, tree / "file")) == errno.ENOTDIR


# writing


def test_file_that_is_touched_keeps_its_content_until_it_is_written(tree: Path) -> None:
    assert sh(scripts.TOUCH, tree / "file", "any", "", "", "keep").stdout == b"content"
    assert sh(scripts.TOUCH, tree / "file", "any", "", "", "cut").stdout == b""
    assert (tree / "file").read_text() == "content"
    assert sh(scripts.WRITE, tree / "file", input=b"new").returncode == 0
    assert (tree / "file").read_text() == "new"


def test_file_that_is_new_has_its_mode_and_owner_before_it_has_content(tree: Path) -> None:
    path = tree / "folder" / ODD
    assert sh(scripts.TOUCH, path, "new", "600", ME, "cut").returncode == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.owner() == ME
    assert path.read_text() == ""


@pytest.mark.parametrize(
    ("path", "kind", "expected"),
    [
        ("file", "new", errno.EEXIST),
        ("none", "old", errno.ENOENT),
        ("folder", "any", errno.EISDIR),
        ("none/below", "any", errno.ENOENT),
        ("file/below", "any", errno.ENOTDIR),
    ],
)
def test_what_cannot_be_written_is_told_by_name_and_nothing_is_made(
    tree: Path, path: str, kind: str, expected: int
) -> None:
    before = sorted(tree.rglob("*"))
    assert number(sh(scripts.TOUCH, tree / path, kind, "", "", "cut")) == expected
    assert sorted(tree.rglob("*")) == before


def test_folders_are_made_and_those_that_are_there_stay(tree: Path) -> None:
    assert sh(scripts.MKDIRS, tree / "a" / "b", "700", ME).returncode == 0
    assert stat.S_IMODE((tree / "a" / "b").stat().st_mode) == 0o700
    assert stat.S_IMODE((tree / "a").stat().st_mode) == 0o755
    assert sh(scripts.MKDIRS, tree / "a" / "b", "755", "").returncode == 0
    assert stat.S_IMODE((tree / "a" / "b").stat().st_mode) == 0o700
    assert number(sh(scripts.MKDIRS, tree / "file", "755", "")) == errno.EEXIST
    assert sh(scripts.MKDIRS, tree / "file" / "below", "755", "").returncode != 0


def test_link_takes_the_place_of_a_link_alone(tree: Path) -> None:
    assert sh(scripts.SYMLINK, tree / "link", "folder", "", "").returncode == 0
    assert (tree / "link").readlink() == Path("folder")
    assert sh(scripts.SYMLINK, tree / "link", "-v", "", "").returncode == 0  # not into that folder
    assert (tree / "link").readlink() == Path("-v")
    assert number(sh(scripts.SYMLINK, tree / "file", "x", "", "")) == errno.EEXIST


def test_link_has_its_owner_and_its_time(tree: Path) -> None:
    when = scripts.time_of(981_173_106_123_456_789)
    assert when == "@981173106.123456789"
    assert scripts.time_of(-1) == "@-1.999999999"
    assert sh(scripts.SYMLINK, tree / "link", "none", ME, when).returncode == 0
    info = (tree / "link").lstat()
    assert (info.st_mtime_ns, info.st_uid) == (981_173_106_123_456_789, os.getuid())


def test_hard_link_is_one_more_name(tree: Path) -> None:
    assert sh(scripts.LINK, tree / "folder/more", tree / "file").returncode == 0
    assert (tree / "folder/more").samefile(tree / "file")
    assert sh(scripts.LINK, tree / "link", tree / "file").returncode == 0  # in place of a link
    assert not (tree / "link").is_symlink()
    assert number(sh(scripts.LINK, tree / "x", tree / "none")) == errno.ENOENT


def test_file_has_the_times_that_it_is_given(tree: Path) -> None:
    when = scripts.time_of(981_173_106_123_456_789)
    assert sh(scripts.SETTLE, tree / ODD, "4750", when).returncode == 0
    assert (tree / ODD).stat().st_mtime_ns == 981_173_106_123_456_789
    assert stat.S_IMODE((tree / ODD).stat().st_mode) == 0o4750
    before = (tree / "file").stat().st_mtime_ns
    assert sh(scripts.SETTLE, tree / "file", "", "").returncode == 0
    assert (tree / "file").stat().st_mtime_ns == before
    assert number(sh(scripts.SETTLE, tree / "none", "", when)) == errno.ENOENT
    done = sh(scripts.STAT, tree / ODD).stdout.split()
    assert done[-1] == b"981173106.123456789"


def test_attributes_are_given_or_refused_by_name(tree: Path) -> None:
    done = sh(scripts.SETTLE, tree / "file", "", "", "user.note", b"a\0b".hex())
    if shutil.which("setfattr") is None:
        assert number(done) == errno.ENOTSUP
    else:
        assert os.getxattr(tree / "file", "user.note") == b"a\0b"


def test_what_is_all_zero_is_a_hole(tree: Path) -> None:
    content = bytes(5 << 20) + b"x" * 10 + bytes(1 << 20)
    assert sh(scripts.WRITE, tree / "file", input=content).returncode == 0
    assert (tree / "file").read_bytes() == content
    assert (tree / "file").stat().st_blocks * 512 < 1 << 20
    assert sh(scripts.WRITE, tree / "file", input=b"short").returncode == 0
    assert (tree / "file").read_bytes() == b"short"


def test_mode_and_owner_are_changed_or_told(tree: Path) -> None:
    assert sh(scripts.CHMOD, tree / "file", "4711").returncode == 0
    assert stat.S_IMODE((tree / "file").stat().st_mode) == 0o4711
    assert number(sh(scripts.CHMOD, tree / "none", "600")) == errno.ENOENT
    assert sh(scripts.CHOWN, tree / "file", ME).returncode == 0
    assert number(sh(scripts.CHOWN, tree / "none", ME)) == errno.ENOENT
    assert sh(scripts.CHOWN, tree / "file", "nobody-at-all").returncode != 0


# commands


def test_command_has_its_user_folder_and_variables(tree: Path) -> None:
    words = ["sh", "-c", 'echo "$PWD $USER $LOGNAME $MORE $1"', "sh", ODD]
    assert (
        sh(scripts.RUN, ME, tree, "MORE=a b", *words).stdout.decode()
        == f"{tree} {ME} {ME} a b {ODD}\n"
    )
    assert sh(scripts.RUN, ME, "", "sh", "-c", "exit 7").returncode == 7
    assert sh(scripts.RUN, ME, str(tree / "none"), "true").returncode == 126


def test_user_is_there_or_not() -> None:
    assert sh(scripts.USER, ME).returncode == 0
    assert sh(scripts.USER, "nobody-at-all").returncode != 0
    assert sh(scripts.USER, "-u").returncode != 0  # no option


def test_table_of_the_kernel_is_printed() -> None:
    assert sh(scripts.PROC, "tcp").stdout.startswith(b"  sl  local_address")
    assert sh(scripts.PROC, "none").returncode != 0


# errors


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("ENOENT", errno.ENOENT),
        ("cat: write error: No space left on device", errno.ENOSPC),
        ("sh: 3: cannot create /x: Permission denied", errno.EACCES),
        ("something else", None),
        ("", None),
        ("0", None),
        ("EVERYTHING", None),
    ],
)
def test_error_has_its_number_by_name_or_by_words(said: str, expected: int | None) -> None:
    assert scripts.number_of(said) == expected


@pytest.mark.parametrize(
    ("err", "words"),
    [
        (b"noise\nENOENT\n", r"\[Errno 2\] No such file or directory: '/x'"),
        (b"it broke\n", r"\[Errno 5\] it broke: '/x'"),
        (b"", r"\[Errno 5\] it ended with status 9: '/x'"),
        (b" \n\n", r"\[Errno 5\] it ended with status 9: '/x'"),
        (b"\xff\xfe\n", r"\[Errno 5\] .*: '/x'"),
    ],
)
def test_failed_script_is_an_error_of_the_kernels_kind(err: bytes, words: str) -> None:
    with pytest.raises(OSError, match=f"^{words}$"):
        scripts.check(9, err, "/x")
    scripts.check(0, err, "/x")


# connections


def connector(*words: str) -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", scripts.CONNECT, *words],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=subprocess.PIPE,
        )
    ours.settimeout(10)
    return process, ours


def test_connector_says_when_it_is_connected_and_relays_both_ways() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process, near = connector("127.0.0.1", str(listener.getsockname()[1]), "5")
        with process, near, listener.accept()[0] as far:
            assert near.recv(1) == b"+"
            near.sendall(b"question")
            near.shutdown(socket.SHUT_WR)
            assert far.makefile("rb").read() == b"question"
            far.sendall(b"answer")
            far.close()
            assert near.makefile("rb").read() == b"answer"
            assert process.wait(10) == 0


def test_connector_tells_why_it_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    process, near = connector("127.0.0.1", str(port), "5")
    with process, near:
        assert near.recv(1) == b""
        assert process.stderr is not None
        assert process.stderr.read() == b"ECONNREFUSED\n"
        assert process.wait(10) == 1


def test_connector_ends_when_the_far_end_is_reset() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process, near = connector("127.0.0.1", str(listener.getsockname()[1]), "5")
        with process, near:
            far, _ = listener.accept()
            assert near.recv(1) == b"+"
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            far.close()
            threading.Timer(0.1, near.close).start()
            process.communicate(timeout=10)


def test_every_name_of_an_error_that_a_script_tells_is_one() -> None:
    told = {
        word
        for name in scripts.__all__
        if isinstance(script := getattr(scripts, name), str)
        for line in script.splitlines()
        for word in line.replace(";", " ").split()
        if word.startswith("E") and word.isupper() and word.isalpha()
    }
    assert {"ENOENT", "ENOTDIR", "EISDIR", "EEXIST", "EACCES"} <= told
    assert [word for word in told if not hasattr(errno, word)] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone runs as others")
def test_command_of_another_user_is_theirs() -> None:
    done = sh(scripts.RUN, "nobody", "/", "sh", "-c", "id -un; id -gn; echo $HOME")
    user, group, home = done.stdout.decode().split()
    assert (user, home) == ("nobody", "/")
    assert group == "nogroup"
