"""What the plugin costs a session that uses no layout, and who a name belongs to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pytest_carthage import plugin
from pytest_carthage.plugin import hooks
from tests.plugin.conftest import Suite

#: what must not be imported just because the plugin is installed, if pytest has not done so (its
#: ``pdb`` imports asyncio from Python 3.14 on)
HEAVY = (
    "asyncio",
    "jinja2",
    "podman",
    "rich",
    "testinfra",
    "pytest_carthage.model",
    "pytest_carthage.plugin.settings",
    "pytest_carthage.live.environment",
    "pytest_carthage.state",
)


def start(folder: Path, *lines: str, plugin: str = "pytest_carthage.plugin") -> str:
    """Run a trivial test with the plugin alone, then these lines; returns what was printed."""
    (folder / "conftest.py").unlink(missing_ok=True)
    (folder / "test_it.py").write_text("def test_it(): pass\n")
    code = (
        "import sys, pytest",
        "status = pytest.main(['-p', 'no:cacheprovider', '-q'])",
        *lines,
        "sys.exit(status)",
    )
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(code)],
        cwd=folder,
        env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": plugin},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    return done.stdout


def test_unused_plugin_imports_nothing_heavy(suite: Suite) -> None:
    line = f"print('heavy:', [m for m in {HEAVY!r} if m in sys.modules])"
    _, _, alone = start(suite.path, line, plugin="").partition("heavy: ")
    _, _, with_ours = start(suite.path, line).partition("heavy: ")
    assert with_ours == alone
    assert "carthage" not in with_ours


def test_modules_are_loaded_as_installed(suite: Suite) -> None:
    printed = start(
        suite.path,
        "from pytest_carthage import plugin",
        "from pytest_carthage.plugin import hooks, settings",
        "print('loaders:', *(type(m.__loader__).__name__ for m in (plugin, hooks, settings)))",
    )
    # pytest has marked the plugin and all below it
    assert "loaders: AssertionRewritingHook SourceFileLoader SourceFileLoader" in printed


def test_plugin_has_all_hooks() -> None:
    written = {name for name in vars(hooks) if name.startswith("pytest_")}
    assert written <= set(hooks.__all__)
    assert written <= set(vars(plugin))


def test_unused_plugin_says_nothing(suite: Suite) -> None:
    (suite.path / "conftest.py").unlink()
    suite.write(test_it="def test_it(): pass\n")
    result = suite.run()
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*carthage: *")
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
