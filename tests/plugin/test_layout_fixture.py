"""The fixture of a layout: built once, shared, torn down; and what a failure looks like."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.plugin.conftest import Suite, wait_until_clean


def test_layout_is_built_once_and_torn_down(suite: Suite) -> None:
    suite.write(
        test_it="""
        names = []

        def test_first(pair):
            names.append(pair.name)
            assert pair.one.run("hostname").lines == ["one"]

        def test_second(pair):
            names.append(pair.name)
            assert len(set(names)) == 1
            assert [machine.name for machine in pair] == ["one", "two"]
        """
    )
    result = suite.run("--carthage-name=first")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "*carthage: first-pair: starting (2 machines)",
            "*carthage: first-pair: one: done in * s (netns)",
            "*carthage: first-pair: done in * s (2 machines)",
            "*carthage: first-pair: done in * s (teardown)",
        ]
    )
    assert suite.alive == []


def test_two_fixtures_of_one_layout_are_two_environments(suite: Suite) -> None:
    suite.write(
        conftest="other = Pair.fixture()",
        test_it="""
        def test_it(pair, other):
            assert (pair.name, other.name) == ("twice-pair", "twice-pair-2")
            pair.one.write_text("/tmp/mine", "pair")
            assert other.one.run("ls /tmp/mine", check=False).status != 0
        """,
    )
    suite.run("--carthage-name=twice").assert_outcomes(passed=1)


def test_failed_command_shows_the_tests_line_and_the_message_only(suite: Suite) -> None:
    suite.write(test_it="def test_it(pair):\n    pair.one.run('echo no >&2; exit 3')\n")
    result = suite.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            ">       pair.one.run('echo no >&2; exit 3')",
            "E   *CommandError: machine 'one' of layout 'Pair': 'echo no >&2; exit 3' exited with "
            "status 3 after * s; it printed:",
            "E *no",
            "test_it.py:2: CommandError",
        ]
    )
    result.stdout.no_fnmatch_line("*portal.py*")


def test_error_of_a_connection_is_shown_where_the_author_asked_for_it(suite: Suite) -> None:
    suite.write(test_it="def test_it(pair): pair.one.connect(9, 'two')\n")
    result = suite.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [">*pair.one.connect(9, 'two')", "E*ConnectionRefusedError*machine 'one' of layout 'Pair'*"]
    )
    result.stdout.no_fnmatch_line("*portal.py*")


def test_full_trace_shows_everything(suite: Suite) -> None:
    suite.write(test_it="def test_it(pair):\n    pair.one.run('exit 3')\n")
    result = suite.run("--full-trace")
    result.stdout.fnmatch_lines(["*portal.py*"])


BROKEN = """
import pytest
from pytest_carthage.errors import CreationError, Problem
from pytest_carthage.providers.netns import NetnsProvider


class Broken(NetnsProvider):
    kind = "broken"

    async def create(self, planned, context):
        if planned.name == "bad":
            (context.logs / "bad.log").write_text("the last words of bad\\n")
            raise CreationError("machine 'bad' of layout 'Half': it would not start")
        return await super().create(planned, context)


class Lacking(NetnsProvider):
    kind = "lacking"

    def check(self, plan=None):
        return [Problem(who="lacking", what="no such tool", remedy="install the tool")]


def pytest_carthage_providers():
    return {"broken": Broken, "lacking": Lacking}


class Half(Layout):
    lan = Network("10.0.0.0/24")
    good = Machine(links={"eth0": lan.at(".1")}, on="broken")
    bad = Machine(links={"eth0": lan.at(".2")}, on="broken", after=good)


half = Half.fixture()
"""


def test_failed_creation_is_one_error_and_blocks_the_others(suite: Suite) -> None:
    suite.write(
        conftest=BROKEN,
        test_it="""
        def test_first(half): pass
        def test_second(half): pass
        def test_third(pair): pass
        """,
    )
    result = suite.run("--carthage-name=broken")
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at setup of test_first*",
            "machine 'bad' of layout 'Half': it would not start",
            "blocked by layout 'Half': 1 test",
            "  it failed in test_it.py::test_first: "
            "machine 'bad' of layout 'Half': it would not start",
            "  BLOCKED test_it.py::test_second",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    assert suite.alive == []
    folder = suite.bundle("test_it.py.test_first")
    summary = suite.summary("test_it.py.test_first")
    assert summary["phase"] == "setup"
    machines = summary["environments"]["broken-half"]["machines"]
    assert machines["good"]["live"]
    assert not machines["bad"]["live"]
    assert (folder / "broken-half/bad/log.txt").read_text() == "the last words of bad\n"
    assert "10.0.0.1/24" in (folder / "broken-half/good/addresses.txt").read_text()
    result.stdout.no_fnmatch_line("*traceback entries are hidden*")


def test_lacking_host_skips_with_the_reason_in_sight(suite: Suite) -> None:
    suite.write(
        conftest=BROKEN,
        test_it="""
        def test_first(pair): pass
        def test_second(pair): pass
        """,
    )
    result = suite.run("--carthage-target=lacking")
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(
        [
            "*layouts that this host cannot build*",
            "layout 'Pair' is not built here: this host lacks:",
            "  lacking: no such tool; try: install the tool",
            "  2 tests not run",
            "pytest-carthage doctor tells more, and installs what it can with --fix",
        ]
    )


def test_lacking_host_fails_when_strict(suite: Suite) -> None:
    suite.write(
        conftest=BROKEN,
        test_it="""
        def test_first(pair): pass
        def test_second(pair): pass
        """,
    )
    result = suite.run("--carthage-target=lacking", "--carthage-strict")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at setup of test_first*",
            "layout 'Pair' is not built here: this host lacks:",
            "  lacking: no such tool; try: install the tool",
        ]
    )


def test_layout_that_the_target_cannot_realise_is_an_error_before_anything_is_built(
    suite: Suite,
) -> None:
    suite.write(test_it="def test_it(pair): pass\n")
    result = suite.run("--carthage-target=podman")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "machine 'one' of layout 'Pair': target 'podman' needs an image, and the machine has "
            "none; declared at *conftest.py:9; *",
        ]
    )
    result.stdout.no_fnmatch_line("*carthage: *")


def test_wrong_declaration_is_reported_at_collection_with_its_line(suite: Suite) -> None:
    suite.write(
        conftest="""
        class Wrong(Layout):
            lan = Network("10.0.0.0/24")
            one = Machine(links={"eth0": lan.at("10.9.9.9")})
        """,
        test_it="def test_it(pair): pass\n",
    )
    result = suite.run()
    assert result.ret != 0
    output = result.stdout.str() + result.stderr.str()
    assert "machine 'one' of layout 'Wrong'" in output
    assert "conftest.py:17" in output


def test_failed_teardown_does_not_mask_the_tests_failure(suite: Suite) -> None:
    suite.write(
        conftest="""
        import pytest
        from pytest_carthage.errors import StateError
        from pytest_carthage.state.run import Run

        @pytest.fixture(autouse=True, scope="session")
        def refusing():
            patch = pytest.MonkeyPatch()

            async def refuse(self, name):
                raise StateError("the disk is gone")

            patch.setattr(Run, "destroy", refuse)
            yield
            patch.undo()
        """,
        test_it="def test_it(pair):\n    assert pair.one.name == 'two'\n",
    )
    result = suite.run("--carthage-name=stuck")
    result.assert_outcomes(failed=1, errors=1)
    result.stdout.fnmatch_lines(
        [
            "environment 'stuck-pair': its teardown failed: the disk is gone",
            "what is left of it is removed when this process ends",
            "E *AssertionError: assert 'one' == 'two'",
        ]
    )


def test_full_disk_is_told_as_such(suite: Suite, full_state: Path) -> None:
    suite.write(
        test_it="""
        def test_first(pair): pass
        def test_second(pair): pass
        """
    )
    result = suite.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at setup of test_first*",
            f"layout 'Pair': *no space left for state in {full_state} (* KiB, * files); try: free "
            "some, or set CARTHAGE_STATE to a folder on another disk",
        ]
    )
    result.stdout.no_fnmatch_line("*direct cause*")


@pytest.fixture(params=[0, 4, 8])
def full_state(
    suite: Suite, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Path]:
    """A state folder on a file system with a few KiB left."""
    folder = suite.path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)], check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        (folder / "fill").write_bytes(b"x" * 1024 * (16 - request.param))
        monkeypatch.setenv("CARTHAGE_STATE", str(folder))
        yield folder
        assert wait_until_clean() == []
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
