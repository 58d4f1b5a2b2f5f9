"""What the plugin costs a session that uses no layout, and who a name belongs to."""

from __future__ import annotations

import subprocess
import sys

from tests.plugin.conftest import Suite

#: what must not be imported just because the plugin is installed
HEAVY = (
    "asyncio",
    "asyncssh",
    "podman",
    "pyroute2",
    "rich",
    "testinfra",
    "pytest_carthage.model",
    "pytest_carthage.realisation",
    "pytest_carthage.state",
)


def test_unused_plugin_imports_nothing_heavy(suite: Suite) -> None:
    (suite.path / "conftest.py").unlink()
    suite.write(test_it="def test_it(): pass\n")
    code = (
        "import sys, pytest\n"
        "from pytest_carthage import plugin\n"
        "status = pytest.main(['-p', 'no:cacheprovider', '-q'], plugins=[])\n"
        f"heavy = [m for m in {HEAVY!r} if m in sys.modules]\n"
        "print('heavy:', heavy)\n"
        "sys.exit(status)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=suite.path,
        env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "pytest_carthage.plugin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert "heavy: []" in done.stdout


def test_unused_plugin_says_nothing(suite: Suite) -> None:
    (suite.path / "conftest.py").unlink()
    suite.write(test_it="def test_it(): pass\n")
    result = suite.run()
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("carthage: *")
    assert not (suite.path / "state").exists()


def test_help_names_the_options(suite: Suite) -> None:
    result = suite.run("--help")
    result.stdout.fnmatch_lines(
        [
            "layouts of machines (pytest-carthage):",
            "  --carthage-layout=LAYOUT",
            "  --keep-on-fail *",
        ]
    )


def test_name_of_a_session_under_way_is_refused(suite: Suite) -> None:
    inner = [sys.executable, "-m", "pytest", *suite.options(), "--carthage-name=mine", "-q"]
    suite.write(
        test_it=f"""
        import subprocess

        def test_it():
            done = subprocess.run({inner!r}, capture_output=True, text=True)
            assert done.returncode == 4
            assert done.stderr == (
                "ERROR: --carthage-name=mine: another session of yours has this name now; "
                "choose another name, or wait until that one has ended\\n\\n"
            )
        """
    )
    suite.run_apart("--carthage-name=mine").assert_outcomes(passed=1)


def test_state_folder_of_somebody_else_is_refused(suite: Suite) -> None:
    (suite.path / "state").write_text("not a folder")
    result = suite.run("--carthage-name=mine")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: --carthage-name=mine: no place for its state: *"])
    (suite.path / "state").unlink()
