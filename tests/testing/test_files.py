"""Files in memory: what the kernel would say, and real descriptors."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage.testing import Tree


@pytest.fixture
def tree() -> Iterator[Tree]:
    tree = Tree()
    yield tree
    tree.close()


def test_file_written_by_a_descriptor_is_read_by_another(tree: Tree) -> None:
    writing = tree.open("/srv/a", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600, "shop")
    reading = tree.open("/srv/a", os.O_RDONLY)
    os.write(writing, b"hello")
    assert os.read(reading, 10) == b"hello"
    assert os.read(reading, 10) == b""
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(reading, b"x")
    os.close(writing)
    os.close(reading)
    assert tree["/srv/a"] == "hello"
    assert tree.owner("/srv/a") == "shop"
    assert tree.stat("/srv/a") == {
        "mode": stat.S_IFREG | 0o600,
        "uid": 1000,
        "gid": 1000,
        "size": 5,
        "mtime": pytest.approx(tree.stat("/srv/a")["mtime"]),
        "mtime_ns": tree.stat("/srv/a")["mtime_ns"],
    }


def test_file_opened_again_is_cut_or_continued_as_the_flags_say(tree: Tree) -> None:
    tree.write("/srv/a", "hello")
    fd = tree.open("/srv/a", os.O_WRONLY | os.O_APPEND)
    os.write(fd, b" you")
    os.close(fd)
    assert tree["/srv/a"] == "hello you"
    os.close(tree.open("/srv/a", os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
    assert tree["/srv/a"] == ""


@pytest.mark.parametrize(
    ("path", "flags", "number"),
    [
        ("/srv/none", os.O_RDONLY, errno.ENOENT),
        ("/nowhere/file", os.O_WRONLY | os.O_CREAT, errno.ENOENT),
        ("/srv/a/below", os.O_WRONLY | os.O_CREAT, errno.ENOTDIR),
        ("/srv", os.O_WRONLY, errno.EISDIR),
        ("/srv/a", os.O_WRONLY | os.O_CREAT | os.O_EXCL, errno.EEXIST),
        ("/srv/loop", os.O_RDONLY, errno.ELOOP),
    ],
)
def test_file_that_cannot_be_opened_is_refused_as_by_the_kernel(
    tree: Tree, path: str, flags: int, number: int
) -> None:
    tree.write("/srv/a", "x")
    tree.symlink("/srv/loop", "loop")
    with pytest.raises(OSError) as caught:
        tree.open(path, flags)
    assert (caught.value.errno, caught.value.filename) == (number, path)


def test_folder_is_opened_to_be_looked_at_and_lists_nothing_of_the_host(tree: Tree) -> None:
    fd = tree.open("/srv", os.O_RDONLY)
    try:
        assert stat.S_ISDIR(os.fstat(fd).st_mode)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.listdir(fd)  # noqa: PTH208  a descriptor
    finally:
        os.close(fd)


def test_links_are_followed_absolute_relative_and_upwards(tree: Tree) -> None:
    tree.write("/srv/shop/data", "till")
    tree.symlink("/etc/shop", "/srv/shop")
    tree.symlink("/srv/shop/now", "../shop/data")
    assert tree["/etc/shop/now"] == "till"
    assert tree.target("/srv/shop/now") == "../shop/data"
    assert tree.target("/srv/shop/data") is None
    tree.symlink("/srv/shop/now", "gone")
    assert "/srv/shop/now" not in tree
    tree.write("/srv/shop/now", "back")  # through the link, as open(2) makes it
    assert tree["/srv/shop/gone"] == "back"


def test_folders_are_made_on_the_way_and_those_that_are_there_stay(tree: Tree) -> None:
    tree.mkdirs("/srv/one/two", 0o700, "shop")
    assert stat.S_IMODE(int(tree.stat("/srv/one")["mode"])) == 0o755
    assert stat.S_IMODE(int(tree.stat("/srv/one/two")["mode"])) == 0o700
    tree.mkdirs("/srv/one/two", 0o755)
    assert stat.S_IMODE(int(tree.stat("/srv/one/two")["mode"])) == 0o700
    tree.write("/srv/file", "")
    with pytest.raises(FileExistsError):
        tree.mkdirs("/srv/file")
    with pytest.raises(NotADirectoryError):
        tree.mkdirs("/srv/file/below")
    assert tree.listdir("/srv") == ["file", "one"]


def test_removed_folder_takes_all_that_is_in_it_along(tree: Tree) -> None:
    tree.write("/srv/one/two", "x")
    before = len(list(Path("/proc/self/fd").iterdir()))
    tree.remove("/srv/one")
    assert "/srv/one" not in tree
    assert len(list(Path("/proc/self/fd").iterdir())) == before - 1
    with pytest.raises(FileNotFoundError):
        tree.remove("/srv/one")


def test_owner_and_mode_are_changed(tree: Tree) -> None:
    tree.write("/srv/a", "x")
    tree.chown("/srv/a", "www-data")
    tree.chmod("/srv/a", 0o4711)
    assert tree.owner("/srv/a") == "www-data"
    assert stat.S_IMODE(int(tree.stat("/srv/a")["mode"])) == 0o4711


def test_relative_path_is_refused(tree: Tree) -> None:
    with pytest.raises(ValueError, match="'srv' is no absolute path"):
        tree.listdir("srv")


def test_all_paths_are_listed(tree: Tree) -> None:
    tree.remove("/etc")
    tree.write("/srv/b", "")
    assert [path for path in tree.paths() if path.startswith("/srv")] == ["/srv", "/srv/b"]
    assert "/etc" not in tree.paths()
