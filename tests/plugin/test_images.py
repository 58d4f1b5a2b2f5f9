"""Images as fixtures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.host import netns_lacks

from .conftest import Suite

pytestmark = [pytest.mark.real]

IMAGE = """
from pytest_carthage import File, Image, filesystem_task

@filesystem_task("greet")
async def greet(fs):
    await fs.write_text("/etc/greeting", "hello\\n")

@filesystem_task("break")
def broken(fs):
    fs.write_text("/etc/evidence", "x")
    fs.read_text("/etc/no-such-file")

base = Image.rootfs("root", name="small")
greeting = base.with_(greet, labels={"team": "x"}).fixture(name="greeting")
bad = base.with_(broken, name="bad").fixture(name="bad")
"""


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("images")
    monkeypatch.setenv("CARTHAGE_IMAGES", str(folder))
    return folder


@pytest.fixture
def images(suite: Suite, store: Path) -> Suite:
    if problems := netns_lacks():
        pytest.skip("; ".join(map(str, problems)))
    (suite.path / "root" / "etc").mkdir(parents=True)
    suite.write(conftest=IMAGE)
    return suite


def test_image_is_built_once_and_looked_into(images: Suite, store: Path) -> None:
    images.write(
        test_it="""
        def test_content(greeting):
            assert greeting.read_text("/etc/greeting") == "hello\\n"
            assert greeting.labels == {"team": "x"}
            assert [layer.meta.title for layer in greeting.layers] == ["base rootfs root", "greet"]

        def test_changes_are_thrown_away(greeting):
            greeting.write_text("/etc/greeting", "x")
            greeting.close()
            assert greeting.read_text("/etc/greeting") == "hello\\n"

        def test_of_a_stage(carthage_build, greeting):
            from pytest_carthage import File
            more = carthage_build(greeting.image.with_(File(__file__, "/srv/"), name="more"))
            assert more.exists("/srv/test_it.py")
            assert more.layers[:2] == greeting.layers
        """
    )
    images.run().assert_outcomes(passed=3)
    images.run("-v").assert_outcomes(passed=3)
    assert list((store / "work").iterdir()) == []


def test_image_that_fails_is_one_error_and_blocks_the_rest(images: Suite, store: Path) -> None:
    images.write(
        test_it="""
        def test_one(bad): ...
        def test_two(bad): ...
        def test_other(greeting): ...
        """
    )
    result = images.run("-rs")
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "*image 'bad', layer 1 of 1: task 'break' (*conftest.py:*) failed: *"
            "No such file or directory: '/etc/no-such-file'*",
            "*blocked by image 'bad'*",
        ]
    )
    text = result.stdout.str()
    assert re.findall(r'File ".*/(.*)", line', text) == ["conftest.py"], "the author's line alone"
    assert "builder.py" not in text
    assert list((store / "broken").iterdir()) == []


def test_broken_build_is_kept_with_keep_on_fail(images: Suite, store: Path) -> None:
    images.write(test_it="def test_one(bad): ...")
    result = images.run("--keep-on-fail")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*kept for a look: pytest-carthage images shell bad*"])
    place = store / "broken/bad"
    assert (place / "tree/etc/evidence").read_text() == "x"
    assert json.loads((place / "broken.json").read_text())["title"] == "break"


def test_mistake_in_a_declaration_is_told_at_once(images: Suite, store: Path) -> None:
    path = images.path / "conftest.py"
    path.write_text(path.read_text() + '\nodd = base.with_(tag="No Tag").fixture(name="odd")\n')
    images.write(test_it="def test_one(odd): ...")
    result = images.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*image 'small': tag 'No Tag' is not a name for an image;*"])
    assert not list(store.glob("layers/*"))
