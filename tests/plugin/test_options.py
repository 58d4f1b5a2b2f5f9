"""Options: what they choose, and what a mistake in them is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_carthage.planning.targets import installed
from pytest_carthage.reference import layouts, names
from pytest_carthage.reference.durations import duration_s
from tests.plugin.conftest import Suite

LAYOUTS = """
from pytest_carthage import Layout, Machine, Network


class Small(Layout):
    one = Machine()


class Large(Small):
    two = Machine()
"""

USES = """
def test_it(layout):
    assert layout.one.run("true").ok
    print("on", layout.name)
"""


def test_layout_fixture_without_layout_is_skipped_with_a_hint(suite: Suite) -> None:
    suite.write(test_it=USES)
    result = suite.run()
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        ["SKIPPED * no layout: give --carthage-layout=PATH.py:Class (or a registered name)"]
    )


@pytest.mark.parametrize("text", ["shapes.py:Small", "shapes:Small", "shapes.Small"])
def test_layout_is_found_by_path_and_by_dotted_name(
    suite: Suite, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(suite.path)
    suite.write(shapes=LAYOUTS, test_it=USES)
    result = suite.run("--carthage-layout", text, "--carthage-name=found", "-rP")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["on found-small"])


def test_two_layouts_parametrise(suite: Suite) -> None:
    suite.write(shapes=LAYOUTS, test_it=USES)
    result = suite.run(
        "--carthage-layout=shapes.py:Small", "--carthage-layout=shapes.py:Large", "-v"
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*test_it?Small? *", "*test_it?Large? *"])


def test_layout_of_the_ini_file_is_found_from_its_folder(suite: Suite) -> None:
    suite.write(shapes=LAYOUTS)
    suite.pytester.makeini("[pytest]\ncarthage_layout = shapes.py:Small\n")
    below = suite.path / "below"
    below.mkdir()
    (below / "test_it.py").write_text(USES)
    suite.pytester.chdir()
    suite.run("below").assert_outcomes(passed=1)


def test_layout_registered_by_a_hook_is_found_by_its_name(suite: Suite) -> None:
    suite.write(
        conftest="""
        def pytest_carthage_layouts():
            return {"the-pair": Pair, "lazy": "shapes:Small"}
        """,
        test_it="def test_it(layout): assert type(layout).__name__ == 'Pair'\n",
    )
    suite.run("--carthage-layout=the-pair").assert_outcomes(passed=1)


def test_unknown_layout_lists_what_there_is(suite: Suite) -> None:
    suite.write(
        conftest="""
        def pytest_carthage_layouts():
            return {"the-pair": Pair, "lazy": "shapes:Small"}
        """
    )
    result = suite.run("--carthage-layout=the-pear")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "ERROR: --carthage-layout: unknown layout 'the-pear'; registered layouts: lazy, "
            "the-pair; try one of these, or PATH.py:Class, or dotted.name.Class"
        ]
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "shapes.py",
            "layout 'shapes.py': which one? {path}/shapes.py has: Small, Large; "
            "try shapes.py:Small",
        ),
        (
            "shapes.py:Tiny",
            "layout 'shapes.py:Tiny': {path}/shapes.py has no 'Tiny'; its layouts are: "
            "Small, Large",
        ),
        (
            "shapes.py:Network",
            "layout 'shapes.py:Network': <class 'pytest_carthage.model.network.Network'> is no "
            "layout; try the name of a class derived from Layout",
        ),
        (
            "forms.py:Small",
            "layout 'forms.py:Small': there is no file {path}/forms.py; try a path that exists",
        ),
        (
            "no_such_package.layouts.Small",
            "layout 'no_such_package.layouts.Small': there is no module 'no_such_package'; "
            "try PATH.py:Class for a file that is not installed",
        ),
        ("broken.py:Small", "{path}/broken.py: importing it failed: ZeroDivisionError: *"),
    ],
)
def test_wrong_layout_is_told_what_is_there(suite: Suite, text: str, message: str) -> None:
    suite.write(shapes=LAYOUTS, broken="1 / 0\n")
    result = suite.run("--carthage-layout", text)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --carthage-layout: {message.format(path=suite.path)}"])


def test_file_with_one_layout_needs_no_class(tmp_path: Path) -> None:
    (tmp_path / "single.py").write_text(LAYOUTS.partition("class Large")[0])
    found = layouts.find("single.py", registered={}, folder=tmp_path)
    assert found.__name__ == "Small"
    assert layouts.find("single.py:Small", registered={}, folder=tmp_path) is found


def test_layout_file_can_import_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "carthage_neighbour.py").write_text(LAYOUTS)
    (tmp_path / "mine.py").write_text(
        "from carthage_neighbour import Small\nclass Mine(Small): pass\n"
    )
    assert layouts.find("mine.py", registered={}, folder=tmp_path).__name__ == "Mine"


def test_unknown_target_lists_what_there_is(suite: Suite) -> None:
    result = suite.run("--carthage-target=cloud")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    there_are = ", ".join(sorted(installed()))
    result.stderr.fnmatch_lines([f"ERROR: unknown target 'cloud'; there are: {there_are}"])


def test_target_of_two_plugins_is_refused(suite: Suite) -> None:
    suite.write(
        conftest="""
        def pytest_carthage_providers():
            return {"netns": object}
        """
    )
    result = suite.run("--carthage-target=netns")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: target 'netns' is added by two plugins *"])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "--keep-for=8",
            "--keep-for: '8' is no duration; write a number and a unit (s, m, h, d), as in 8h "
            "or 1d12h",
        ),
        (
            "--carthage-name=Big Name",
            "--carthage-name=Big Name: small letters, digits and single dashes between them "
            "make a name",
        ),
        (
            f"--carthage-name={'x' * 33}",
            f"--carthage-name={'x' * 33}: a name of 33 characters; at most 32 go",
        ),
    ],
)
def test_wrong_value_is_a_usage_error(suite: Suite, option: str, message: str) -> None:
    result = suite.run(option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])


def test_wrong_value_of_the_ini_file_is_named_as_there(suite: Suite) -> None:
    suite.pytester.makeini("[pytest]\ncarthage_keep_for = soon\n")
    result = suite.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: carthage_keep_for: 'soon' is no duration; *"])


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("90m", 5400), ("8h", 28800), ("1d12h", 129600)]
)
def test_duration_is_read(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "8", "h", "8 h", "0h", "-1h", "8w"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        duration_s(text)


def test_new_name_is_a_valid_name() -> None:
    assert names.complaint(names.new()) == ""


def test_environment_name_has_run_layout_and_worker() -> None:
    assert names.environment("bakodi", "Web_Shop2", worker="gw1") == "bakodi-web-shop2-gw1"
    assert names.environment("bakodi", "Ü") == "bakodi-layout"


def test_header_says_what_machines_of_the_chosen_target_are_like(suite: Suite) -> None:
    suite.write(
        conftest="""
from pytest_carthage.testing import FakeProvider

class Huts(FakeProvider):
    def describe(self):
        return "walls of straw"

def pytest_carthage_providers():
    return {"hut": Huts, "shed": FakeProvider}
""",
        test_it="def test_it():\n    pass\n",
    )
    said = "carthage: target hut: walls of straw"
    assert said in suite.run("--carthage-target=hut").outlines
    for options in (["--carthage-target=shed"], []):
        result = suite.run(*options)
        result.assert_outcomes(passed=1)
        assert "carthage: target" not in str(result.stdout)
