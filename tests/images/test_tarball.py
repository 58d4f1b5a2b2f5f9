"""An image's whole root file system as a tar."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

from pytest_carthage.errors import BuildError
from pytest_carthage.fabric.host.programs import missing
from pytest_carthage.images.exports.boot.finding import find_kernel
from pytest_carthage.images.exports.notes import quiet
from pytest_carthage.images.exports.places import new_file
from pytest_carthage.images.exports.tarball import save_tarball
from pytest_carthage.images.exports.tools import check_tools
from pytest_carthage.store.built import Built
from pytest_carthage.store.root import Store
from tests.support.unprivileged import account, as_user

from .handmade import ABOVE, BASE, BASE_AS_ROOT, Images, look, overlaid, skip_without

pytestmark = pytest.mark.real

AS_ROOT = os.geteuid() == 0


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Images:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    return Images(tmp_path / "images")


@pytest.fixture
def built(images: Images) -> Built:
    base = images.layer("base", script=BASE + (BASE_AS_ROOT if AS_ROOT else ""))
    above = images.layer("above", [base], script=ABOVE)
    # what was deleted is there again, and a link is a folder now
    again = (
        "echo back > etc/gone; mkdir -p var/cache/old; rm usr/bin/symbolic; mkdir usr/bin/symbolic"
    )
    return images.built(base, above, images.layer("again", [base, above], script=again))


def _unpack(path: Path, folder: Path) -> Path:
    folder.mkdir()
    subprocess.run(
        [
            *("tar", "--extract", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-p"),
            *("--file", str(path), "--directory", str(folder)),
        ],
        check=True,
    )
    return folder


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz"])
def test_tarball_has_the_files_that_the_kernel_shows(
    built: Built, tmp_path: Path, ending: str
) -> None:
    skip_without(check_tools(["zstd", "xz"]))
    path = tmp_path / f"image{ending}"
    asyncio.run(save_tarball(built, path))
    seen, expected = look(_unpack(path, tmp_path / "out")), overlaid(built, tmp_path / "merged")
    for facts in (*seen.values(), *expected.values()):
        facts.pop("links", None)  # an overlay counts those that are deleted above
    assert seen == expected
    assert "var/cache/old/file" not in seen
    assert {path.name for path in tmp_path.iterdir()} == {
        *("images", path.name, "out", "merged", "empty")
    }


def test_tarball_is_the_same_each_time(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        asyncio.run(save_tarball(built, tmp_path / f"{number}.tar.gz"))
    assert (tmp_path / "0.tar.gz").read_bytes() == (tmp_path / "1.tar.gz").read_bytes()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    asyncio.run(save_tarball(built, tmp_path / "old.tar"))
    newest = max(int(one["mtime"]) for one in _files(tmp_path / "old.tar", tmp_path / "out"))
    assert newest == 1_000_000_000


def _files(path: Path, folder: Path) -> list[dict[str, int]]:
    return [one for one in look(_unpack(path, folder)).values() if "mtime" in one]


def test_file_that_begins_with_wh_is_a_file_like_any_other(images: Images, tmp_path: Path) -> None:
    base = images.layer("base", script="echo x > .wh.x")
    asyncio.run(save_tarball(images.built(base), tmp_path / "a.tar"))
    assert list(look(_unpack(tmp_path / "a.tar", tmp_path / "out"))) == [".wh.x"]


def test_deep_folders_fit(images: Images, tmp_path: Path) -> None:
    script = "n=0; while [ $n -lt 1200 ]; do mkdir d; cd d; n=$((n + 1)); done; echo x > file"
    base = images.layer("base", script=script)
    asyncio.run(save_tarball(images.built(base), tmp_path / "a.tar"))
    # pytest would remove it by a function that calls itself for each folder
    subprocess.run(["rm", "--recursive", str(base.tree)], check=True)
    done = subprocess.run(
        ["tar", "--list", "--file", str(tmp_path / "a.tar")], capture_output=True, check=True
    )
    assert done.stdout.endswith(b"d/" * 1200 + b"file\n")


def test_tarball_of_no_known_ending_is_told(built: Built, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"not known by its ending; try: \.tar, \.tar\.gz"):
        asyncio.run(save_tarball(built, tmp_path / "image.rar"))


def test_tarball_keeps_links_of_a_layer(images: Images, tmp_path: Path) -> None:
    base = images.layer("base", script="echo x > a; ln a b; ln a c")
    asyncio.run(save_tarball(images.built(base), tmp_path / "a.tar"))
    assert look(_unpack(tmp_path / "a.tar", tmp_path / "out"))["c"]["links"] == 3


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tar.zst"])
def test_tarball_that_fails_leaves_what_was_there(
    images: Images, tmp_path: Path, ending: str
) -> None:
    skip_without(check_tools(["zstd"]))
    base = images.layer("base", script="echo x > file; mkdir inner")
    path = tmp_path / f"a{ending}"
    asyncio.run(save_tarball(images.built(base), path))
    before = path.read_bytes()
    base.tree.rename(base.path / "away")
    with pytest.raises(BuildError, match=r"saved as .*: .*No such file or directory.*base/tree"):
        asyncio.run(save_tarball(images.built(base), path))
    assert path.read_bytes() == before
    assert sorted(one.name for one in tmp_path.iterdir()) == [path.name, "images"]


def test_two_who_write_the_same_file_are_told(built: Built, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with (
        new_file(path, "the other one"),
        pytest.raises(BuildError, match=r"another process writes .*a\.tar now"),
    ):
        asyncio.run(save_tarball(built, path))
    assert path.exists()


_SAVE = """
import asyncio, sys
from pathlib import Path
from pytest_carthage import Image
from pytest_carthage.images.exports import tarball
from pytest_carthage.images.exports.disks.saving import save_disk
from pytest_carthage.images.exports.oci.archive import save_archive
from pytest_carthage.images.exports.oci.tagging import tag
from pytest_carthage.store.built import Built
from pytest_carthage.store.layer import LayerMeta
from pytest_carthage.store.root import Store
home = Path(sys.argv[1])
store = Store(home / "images")
store.prepare()
layers = []
for key, below in (("base", None), ("above", "base")):
    meta = LayerMeta(key=key, parent=below, kind="base", title=key)
    layers.append(store.layers.commit(store.folder("work") / key, meta))
layers = tuple(layers)
image = Image.debian("bookworm", name="handmade").with_(command=["/bin/true"])
built = Built(image=image, layers=layers, config=image.config, store=store)
asyncio.run(tarball.save_tarball(built, home / "a.tar.gz"))
asyncio.run(save_archive(built, home / "oci.tar"))
(store.folder("kernels")).symlink_to(sys.argv[2])
asyncio.run(save_disk(built, home / "disk.raw", size_mib=300))
asyncio.run(tag(built, "handmade:1"))
asyncio.run(tag(built, "handmade:2"))
"""

# the owner's work of a layer in a user namespace: files of others, deletions by an overlay
_LAYERS = """
mkdir -p images/work/base/tree images/work/above/tree images/work/above/o images/work/above/m
cd images/work
mkdir -p base/tree/etc base/tree/var/old base/tree/sbin; echo one > base/tree/etc/one
echo secret > base/tree/etc/theirs; chown 12:34 base/tree/etc/theirs
chmod 600 base/tree/etc/theirs; echo gone > base/tree/etc/gone; : > base/tree/var/old/file
: > base/tree/sbin/init
mount -t overlay overlay -o lowerdir=base/tree,upperdir=above/tree,workdir=above/o,userxattr above/m
rm above/m/etc/gone; rm -r above/m/var/old; mkdir above/m/var/old; : > above/m/var/old/new
umount above/m; rm -rf above/o above/m
"""


@pytest.mark.skipif(not AS_ROOT, reason="makes an account to be that user")
@pytest.mark.timeout(300)
def test_results_are_the_same_without_root(tmp_path_factory: pytest.TempPathFactory) -> None:
    skip_without(check_tools(["skopeo", "mke2fs", "depmod", "dpkg-deb", "apt-get"]))
    skip_without(missing("images", {"newuidmap": "uidmap"}, "maps users without root"))
    own = Store()
    own.prepare()
    asyncio.run(find_kernel((), own, doing="a test", note=quiet))
    with tempfile.TemporaryDirectory() as name, account() as user:
        home = Path(name)
        home.chmod(0o755)
        kernels = home / "kernels"  # in a folder that the user can enter
        shutil.copytree(own.folder("kernels"), kernels, symlinks=True)
        subprocess.run(["chmod", "-R", "a+rX", str(kernels)], check=True)
        shutil.chown(home, user)
        script = f"cd {home}\n{_LAYERS}"
        inside = ["unshare", "--user", "--map-root-user", "--map-auto", "--mount", "sh", "-ec"]
        save = [sys.executable, "-c", _SAVE, str(home), str(kernels)]
        both = f"{shlex.join([*inside, script])} && {shlex.join(save)}"
        done = subprocess.run(
            as_user(["sh", "-ec", both], home=home, user=user),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        with tarfile.open(home / "a.tar.gz") as tar:
            assert sorted(one for one in tar.getnames() if "etc" in one or "old" in one) == [
                *("etc", "etc/one", "etc/theirs", "var/old", "var/old/new")
            ]
            theirs = tar.getmember("etc/theirs")
            assert (theirs.uid, theirs.gid, theirs.mode) == (12, 34, 0o600)
        stat = subprocess.run(
            ["debugfs", "-R", "stat /etc/theirs", str(home / "disk.raw")],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "User:    12   Group:    34" in stat.stdout
        with tarfile.open(home / "oci.tar") as tar:
            assert tar.getnames()[:2] == ["oci-layout", "index.json"]
