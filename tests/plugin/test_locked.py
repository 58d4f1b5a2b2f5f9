"""``--carthage-locked`` and ``--carthage-offline``, from pytest's side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_carthage.cli import main
from pytest_carthage.providers.podman import PodmanProvider
from tests.plugin.conftest import Suite
from tests.support.shelf import tiny_system

pytestmark = pytest.mark.real

CONFTEST = """
from pytest_carthage import File, Image


class Tiny(Layout):
    tiny = Image.rootfs("system", name="tiny").with_(File("settings", "/etc/settings"))
    box = Machine(tiny, on="podman")


tiny = Tiny.fixture()
"""

USES = """
def test_it(tiny):
    assert tiny.box.read_text("/etc/settings") == "first\\n"


def test_again(tiny):
    pass
"""


@pytest.fixture
def locked(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """A suite with a layout of containers, which take no time, and its lock."""
    if problems := PodmanProvider().check():
        pytest.skip("; ".join(map(str, problems)))
    monkeypatch.setenv("CARTHAGE_IMAGES", str(suite.path / "images"))
    tiny_system(suite.path / "system")
    (suite.path / "settings").write_text("first\n")
    suite.write(conftest=CONFTEST, test_it=USES)
    assert main(["lock", "--quiet", str(suite.path / "conftest.py:Tiny")]) == 0
    return suite


def test_run_like_the_lock_goes_on(locked: Suite) -> None:
    locked.run("--carthage-locked", "--carthage-offline").assert_outcomes(passed=2)


def test_file_that_changed_fails_before_anything_is_built(locked: Suite) -> None:
    (locked.path / "settings").write_text("second\n")
    result = locked.run("--carthage-locked")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            f"layout 'Tiny': one thing differs from the lock {locked.path}/carthage.lock, and "
            "nothing was built:",
            "  file settings: locked *, now *",
            "try: `pytest-carthage lock` again, to take what is there now",
        ]
    )
    assert not locked.alive
    assert len(list((locked.path / "images/layers").iterdir())) == 2


def test_lock_is_found_above_the_tests(locked: Suite) -> None:
    below = locked.path / "below"
    below.mkdir()
    (locked.path / "test_it.py").rename(below / "test_it.py")
    locked.run("--carthage-locked").assert_outcomes(passed=2)


@pytest.mark.parametrize("given", ["--carthage-locked=other.lock", "--carthage-locked"])
def test_lock_that_is_missing_is_told(locked: Suite, given: str) -> None:
    (locked.path / "carthage.lock").unlink()
    result = locked.run(given)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["layout 'Tiny': *there is no*; try: pytest-carthage lock *"])


def test_lock_of_another_layout_is_told(locked: Suite) -> None:
    path = locked.path / "carthage.lock"
    path.write_text(json.dumps({**json.loads(path.read_text()), "layout": "Shop"}))
    result = locked.run("--carthage-locked=carthage.lock")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [f"layout 'Tiny': no lock of it is given, but: {path} of 'Shop'; *"]
    )


def test_folder_in_place_of_a_lock_is_refused(locked: Suite) -> None:
    (locked.path / "below").mkdir()
    for path in ("below", "test_it.py", "test_it.py::test_again"):
        result = locked.run("--carthage-locked", path)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(
            [
                f"ERROR: --carthage-locked {path}: that is no lock; "
                f"try: {path} --carthage-locked, or --carthage-locked=FILE"
            ]
        )


def test_ini_file_locks_and_takes_off_line(locked: Suite) -> None:
    locked.pytester.makeini("[pytest]\ncarthage_locked = true\ncarthage_offline = true\n")
    (locked.path / "carthage.lock").unlink()
    result = locked.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["layout 'Tiny': there is no carthage.lock in *"])


def test_workers_are_locked_and_offline_too(locked: Suite) -> None:
    options = ["-n2", "--carthage-locked", "--carthage-offline"]
    locked.run_apart(*options, xdist=True).assert_outcomes(passed=2)
    (locked.path / "settings").write_text("second\n")
    result = locked.run_apart(*options, xdist=True)
    assert "passed" not in result.parseoutcomes()
    result.stdout.fnmatch_lines(["  file settings: locked *, now *"])


def test_image_that_is_missing_offline_is_named(
    locked: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARTHAGE_IMAGES", str(locked.path / "empty"))
    (locked.path / "system").rename(locked.path / "elsewhere")
    result = locked.run("--carthage-offline")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "layout 'Tiny': this run is offline, and what is missing would have to be fetched:",
            "  image 'tiny'*: */system is not there",
            "try: once with a network, or `pytest-carthage unbundle` of a bundle that has it",
        ]
    )
    assert not locked.alive


def test_machine_of_an_image_that_is_not_locked_is_refused(locked: Suite) -> None:
    locked.write(
        test_it="""
        import pytest
        from pytest_carthage import File, Image, Machine
        from pytest_carthage.errors import CarthageError

        def test_it(tiny):
            other = tiny.tiny.with_(File("settings", "/etc/more"), name="other")
            with pytest.raises(CarthageError, match="image 'other' .*has no image"):
                tiny.add(Machine(other, on="podman"), name="more")
        """
    )
    locked.run("--carthage-locked").assert_outcomes(passed=1)


def test_image_of_a_fixture_is_like_the_lock(locked: Suite) -> None:
    locked.write(
        conftest=CONFTEST
        + """
system = Tiny.tiny.fixture()
""",
        test_it="""
        import pytest
        from pytest_carthage import File

        def test_it(system):
            assert system.read_text("/etc/settings") == "first\\n"

        def test_other(system, carthage_build):
            other = system.image.with_(File("settings", "/etc/more"), name="other")
            message = "image 'other' .*: the lock .* has no image that is declared like it; it has"
            with pytest.raises(pytest.fail.Exception, match=message):
                carthage_build(other)
        """,
    )
    locked.run("--carthage-locked").assert_outcomes(passed=2)
    (locked.path / "system").rename(locked.path / "elsewhere")
    for layer in (locked.path / "images/layers").iterdir():
        layer.rename(locked.path / layer.name)
    result = locked.run("--carthage-offline")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["this run is offline, and what is missing *", "  image 'tiny'*"])


def test_sessions_without_layouts_load_nothing_for_it(locked: Suite) -> None:
    locked.write(
        test_it="""
        import sys

        def test_it():
            assert not [name for name in sys.modules if name.startswith("pytest_carthage.images")]
        """
    )
    locked.run_apart("--carthage-locked", "--carthage-offline").assert_outcomes(passed=1)


def test_up_is_locked_and_offline(
    locked: Suite, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(locked.path)
    up = ["up", "conftest.py:Tiny", "--quiet", "--name=held"]
    assert main([*up, "--locked", "--offline"]) == 0
    assert [environment.name for environment in locked.alive] == ["held-tiny"]
    assert main(["rm", "held-tiny"]) == 0
    Path("settings").write_text("second\n")
    capfd.readouterr()
    assert main([*up, "--locked"]) == 1
    assert "  file settings: locked " in capfd.readouterr().err
    assert not locked.alive


def test_images_are_built_as_locked(
    locked: Suite, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(locked.path)
    assert main(["images", "build", "conftest.py:Tiny", "--quiet", "--locked"]) == 0
    Path("settings").write_text("second\n")
    capfd.readouterr()
    assert main(["images", "build", "conftest.py:Tiny", "--quiet", "--locked"]) == 1
    assert "  file settings: locked " in capfd.readouterr().err
