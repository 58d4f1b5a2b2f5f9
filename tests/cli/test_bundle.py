"""``lock``, ``bundle`` and ``unbundle``: what they print, and what a mistake is told."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pytest_carthage.cli import main
from pytest_carthage.fabric.host.privilege import user_namespace_problems
from pytest_carthage.images.bundles import requirements, writing
from pytest_carthage.images.bundles.requirements import Requirement
from pytest_carthage.store.root import Store
from tests.cli.test_commands import complaint
from tests.support.unprivileged import account, as_user

pytestmark = pytest.mark.real

Capture = pytest.CaptureFixture[str]

CONFTEST = """
from pytest_carthage import File, Image, Layout, Machine, filesystem_task
from names import NAME


@filesystem_task
async def write(fs):
    await fs.template("motd.j2", "/etc/motd", variables={"name": NAME})
    await fs.put("../beside/key", "/etc/key", mode=0o600, user="7")


class Tiny(Layout):
    tiny = Image.rootfs("system.tar", name="tiny").with_(write, File("motd.j2", "/etc/motd.j2"))
    one = Machine(tiny, on="podman")
"""


@pytest.fixture
def suite(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A suite with a layout that takes no time to build."""
    monkeypatch.setenv("CARTHAGE_IMAGES", str(folder / "images"))
    made = folder / "suite"
    (made / "templates").mkdir(parents=True)
    (made / "conftest.py").write_text(CONFTEST)
    (made / "names.py").write_text("NAME = 'tiny'\n")
    (made / "templates/motd.j2").write_text("welcome to {{ name }}\n")
    (made / "motd.j2").write_text("plain {{ name }}\n")
    (folder / "beside").mkdir()
    (folder / "beside/key").write_text("secret\n")
    (folder / "beside/other").write_text("not read\n")
    (folder / "system/etc").mkdir(parents=True)
    (folder / "system/etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    subprocess.run(["tar", "-cf", made / "system.tar", "-C", folder / "system", "."], check=True)
    return made


LAYOUT = "suite/conftest.py:Tiny"


def printed(capfd: Capture, *arguments: str, status: int = 0) -> list[str]:
    capfd.readouterr()
    assert main(arguments) == status, capfd.readouterr().err
    return capfd.readouterr().out.splitlines()


def test_lock_is_written_beside_the_layout(suite: Path, capfd: Capture) -> None:
    (line,) = printed(capfd, "lock", LAYOUT)
    assert line == f"{suite}/carthage.lock: 1 image, 0 packages, 2 files"
    told = json.loads((suite / "carthage.lock").read_text())
    assert list(told["files"]) == ["../beside/key", "motd.j2"]
    assert [one["title"] for one in told["images"]["tiny"]["layers"]] == [
        "base rootfs system.tar",
        "write",
        "copy motd.j2 to /etc/motd.j2",
    ]
    (line,) = printed(capfd, "lock", LAYOUT, "-q", "-o", "other.lock")
    assert line.startswith(f"{suite.parent}/other.lock: ")


def test_suite_that_has_moved_is_recognised(
    suite: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = printed(capfd, "bundle", LAYOUT, "-o", "lab.tar.gz", "-q")
    assert lines[0].startswith("lab.tar.gz: ")
    assert lines[0].endswith(": 1 image of 3 layers, 7 files of tests")
    assert lines[1] == "on the other host:  pytest-carthage unbundle lab.tar.gz"
    other = suite.parent / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    monkeypatch.setenv("CARTHAGE_IMAGES", str(other / "images"))
    lines = printed(capfd, "unbundle", "../lab.tar.gz", "deep/er", "-qy")
    assert lines == [
        f"{other}/deep/er/suite: the tests of layout 'Tiny'",
        "images: 1, of 3 layers, 3 of them new here",
        f"then:  cd {other}/deep/er/suite",
        "       pytest --carthage-offline --carthage-locked",
    ]
    assert (other / "deep/er/beside/key").read_text() == "secret\n"
    assert not (other / "deep/er/beside/other").exists()
    # nothing of the first folder is left that could be found
    suite.rename(suite.with_name("gone"))
    layers = {layer.key for layer in Store(other / "images").layers}
    up = ["lock", "deep/er/suite/conftest.py:Tiny", "--offline", "-q", "-o", "again.lock"]
    printed(capfd, *up)
    assert {layer.key for layer in Store(other / "images").layers} == layers
    assert Path("again.lock").read_text() != ""
    told = json.loads(Path("deep/er/suite/carthage.lock").read_text())
    assert json.loads(Path("again.lock").read_text())["images"] == told["images"]


def test_image_that_the_layout_does_not_have_comes_along(suite: Path, capfd: Capture) -> None:
    with (suite / "conftest.py").open("a") as file:
        file.write("more = Tiny.tiny.with_(File('names.py', '/etc/names'), name='more')\n")
    printed(capfd, "images", "build", "suite/conftest.py:more", "-q")
    lines = printed(capfd, "bundle", LAYOUT, "-o", "lab.tar", "--image", "more", "-q")
    assert ": 2 images of 4 layers, " in lines[0]
    assert complaint(capfd, "bundle", LAYOUT, "-o", "lab.tar", "--image", "most") == (
        "--image most: no such image was built; see: pytest-carthage images ls"
    )


def test_bundle_must_be_like_the_lock(suite: Path, capfd: Capture) -> None:
    printed(capfd, "lock", LAYOUT)
    (suite / "motd.j2").write_text("changed\n")
    told = complaint(capfd, "bundle", LAYOUT, "-o", "lab.tar", "-q", status=1)
    assert told.startswith("layout 'Tiny': one thing differs from the lock ")
    assert not Path("lab.tar").exists()


def test_mistakes_are_told_before_anything_is_built(suite: Path, capfd: Capture) -> None:
    assert complaint(capfd, "bundle", LAYOUT, "-o", "lab.zip", "-q", status=1).startswith(
        "bundle lab.zip: its name says nothing of how it is packed; try: .tar"
    )
    assert complaint(capfd, "bundle", LAYOUT, "-o", "x.tar", "--suite", "nowhere") == (
        "--suite nowhere: there is no such folder"
    )
    shop = "pytest_carthage_fixtures.shop.Shop"
    assert complaint(capfd, "bundle", shop, "-o", "x.tar") == (
        f"{shop} is in no folder of tests; try: --suite DIR, with yours"
    )
    assert not Path("images/layers").exists()
    told = complaint(capfd, "bundle", LAYOUT, "-o", "nowhere/x.tar", "-q", status=1)
    assert "nowhere" in told
    assert told.endswith("try: make the folder first")


def test_what_the_other_host_lacks_is_told(
    suite: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = requirements.of_files

    def more(*arguments: object) -> object:
        told = found(*arguments)  # type: ignore[arg-type]
        extra = (
            Requirement(name="nowhere", version="1.2"),
            Requirement(name="pytest", version="1"),
        )
        return type(told)(distributions=extra, strays={})

    monkeypatch.setattr(writing, "of_files", more)
    printed(capfd, "bundle", LAYOUT, "-o", "lab.tar", "-q")
    lines = printed(capfd, "unbundle", "lab.tar", "-qy", status=1)
    assert [line for line in lines if line.startswith("this host lacks: ")] == [
        "this host lacks: python: nowhere 1.2: it has none; try: pip install nowhere==1.2",
        f"this host lacks: python: pytest 1: it has {pytest.__version__}; "
        "try: pip install pytest==1",
    ]


def test_layers_from_elsewhere_are_taken_when_somebody_says_so(
    suite: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed(capfd, "bundle", LAYOUT, "-o", "lab.tar", "-q")
    monkeypatch.setenv("CARTHAGE_IMAGES", str(Path("other").absolute()))
    told = complaint(capfd, "unbundle", "lab.tar", "-q")
    assert told.startswith("lab.tar has 3 layers that were built elsewhere: base ")
    assert "\nsha256 of its manifest: " in told
    assert told.endswith("\ntry: --yes, if you trust whoever has made it")
    assert not Path("Tiny").exists()
    printed(capfd, "unbundle", "lab.tar", "-qy")
    lines = printed(capfd, "images", "ls")
    (line,) = [line for line in lines if line.startswith("tiny: ")]
    assert re.fullmatch(
        r"tiny: 3 of 3 layers built elsewhere: lab\.tar \(\w{12}\), \d{4}-\d\d-\d\d", line
    )
    told = json.loads("\n".join(printed(capfd, "images", "ls", "--json")))
    assert len(told["images"][0]["origins"]) == 3
    assert "was built elsewhere: lab.tar" in "\n".join(printed(capfd, "images", "history", "tiny"))


def test_ordinary_user_unpacks_what_root_has_packed(suite: Path, capfd: Capture) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make the account that runs this")
    if problems := user_namespace_problems():
        pytest.skip("; ".join(map(str, problems)))
    printed(capfd, "bundle", LAYOUT, "-o", "lab.tar", "-q")
    # pytest's own temporary folder is closed to others
    with tempfile.TemporaryDirectory(prefix="bundle-") as place, account() as user:
        home = Path(place)
        (home / "lab.tar").write_bytes(Path("lab.tar").read_bytes())
        argv = [sys.executable, "-m", "pytest_carthage", "unbundle", "lab.tar", "-qy"]
        own = {"PYTHONPATH": os.pathsep.join(sys.path), "CARTHAGE_IMAGES": f"{home}/images"}
        done = subprocess.run(
            as_user(argv, home=home, user=user),
            capture_output=True,
            text=True,
            check=False,
            cwd=home,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **own},
        )
        assert "images: 1, of 3 layers, 3 of them new here" in done.stdout, done.stderr
        (key,) = home.glob("images/layers/*/tree/etc/key")
        base = key.parent.stat().st_uid
        assert base not in (0, 7)
        # the first id of the namespace is the user's own, the others are subordinate ones
        assert key.stat().st_uid not in (0, 7, base)
        assert key.read_text() == "secret\n"
