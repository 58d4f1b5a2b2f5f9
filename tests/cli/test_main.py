"""What commands have in common: exit statuses, complaints, what they print."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata

import pytest

from pytest_carthage.cli import main, policy
from pytest_carthage.cli import reference as references
from pytest_carthage.cli.output import count, print_json, print_table
from pytest_carthage.cli.progress import showing
from pytest_carthage.cli.usage import Usage
from pytest_carthage.errors import BuildError, LayoutError, StateError
from pytest_carthage.events import Silent, Work
from pytest_carthage.state import listing

Capture = pytest.CaptureFixture[str]

COMMANDS = (
    "ansible",
    "bundle",
    "console",
    "doctor",
    "exec",
    "gc",
    "graph",
    "images",
    "import",
    "inventory",
    "leases",
    "lock",
    "logs",
    "ls",
    "plan",
    "rm",
    "run",
    "shell",
    "unbundle",
    "up",
    "view",
)


def raising(error: BaseException) -> Callable[[], object]:
    def fail() -> object:
        raise error

    return fail


def test_without_a_command_all_are_listed(capfd: Capture) -> None:
    assert main([]) == 0
    printed = capfd.readouterr().out
    for command in COMMANDS:
        assert re.search(rf"^    {command}\b", printed, re.MULTILINE), command


def test_without_a_verb_all_are_listed(capfd: Capture) -> None:
    assert main(["images"]) == 0
    assert re.search(r"^    build +build images$", capfd.readouterr().out, re.MULTILINE)


def test_version_is_that_of_the_distribution(capfd: Capture) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["--version"])
    assert exited.value.code == 0
    assert capfd.readouterr().out == f"pytest-carthage {metadata.version('pytest-carthage')}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("imges", "pytest-carthage: error: no command 'imges'; did you mean 'images'?"),
        ("images bild", "pytest-carthage images: error: no verb 'bild'; did you mean 'build'?"),
        ("qqqq", "pytest-carthage: error: no command 'qqqq'; there are: ls, shell, exec, "),
        ("doctor --fxi", "unrecognized arguments: --fxi; did you mean '--fix'?"),
        ("images build x --targt=y", "arguments: --targt=y; did you mean '--target'?"),
        ("--verion", "pytest-carthage: error: unrecognized arguments: --verion; did you mean"),
    ],
)
def test_a_mistyped_word_is_guessed(words: str, message: str, capfd: Capture) -> None:
    with pytest.raises(SystemExit) as exited:
        main(words.split())
    assert exited.value.code == 2
    assert message in capfd.readouterr().err


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Usage("which one?"), 2),
        (LayoutError("which one?"), 2),
        (BuildError("which one?"), 1),
        (StateError("which one?"), 1),
        (PermissionError("which one?"), 1),
    ],
)
def test_error_has_its_exit_status_and_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: Capture, error: Exception, status: int
) -> None:
    monkeypatch.setattr(listing, "look", raising(error))
    assert main(["ls"]) == status
    assert capfd.readouterr() == ("", "pytest-carthage: which one?\n")


def test_interrupt_is_what_a_shell_expects(monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    monkeypatch.setattr(listing, "look", raising(KeyboardInterrupt()))
    assert main(["ls"]) == 130
    assert capfd.readouterr().err == ""


def test_bug_of_ours_is_shown_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "look", raising(KeyError("socket")))
    with pytest.raises(KeyError):
        main(["ls"])


def test_reader_that_has_gone_away_is_no_traceback() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [sys.executable, "-m", "pytest_carthage", "graph", "--help"],
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    os.close(theirs)
    assert "Traceback" not in done.stderr


def test_help_lists_every_command(capfd: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capfd.readouterr().out
    listed = set(re.findall(r"^    ([a-z]+)\s", text, re.M))
    assert set(COMMANDS) == listed - {"exit"}


def test_output_is_tables_and_json(capfd: Capture) -> None:
    print_table(("NAME", "SIZE"), [("web", "1 MiB"), ("database", "")])
    print_json({"name": "web"})
    out = capfd.readouterr().out
    assert out.startswith("NAME      SIZE\nweb       1 MiB\ndatabase\n{")
    assert json.loads(out[out.index("{") :]) == {"name": "web"}
    assert (count(0, "layer"), count(1, "layer"), count(2, "layer")) == (
        "0 layers",
        "1 layer",
        "2 layers",
    )


def test_progress_is_lines_on_standard_error(capfd: Capture) -> None:
    with showing(quiet=False) as reporter, Work(reporter, "image web"):
        pass
    out, err = capfd.readouterr()
    assert out == ""
    assert re.fullmatch(
        r"([\d:]{8}) image web: starting\n[\d:]{8} image web: done in 0\.\d\d s\n", err
    )


def test_progress_that_nobody_wants_is_silent(capfd: Capture) -> None:
    with showing(quiet=True) as reporter, Work(reporter, "image web"):
        assert isinstance(reporter, Silent)
    assert capfd.readouterr() == ("", "")


def test_folder_of_a_layout_is_that_of_the_file_that_was_named() -> None:
    from pathlib import Path

    from pytest_carthage_fixtures.shop import Shop

    assert policy.folder_of("suite/conftest.py:Shop", Shop) == Path.cwd() / "suite"
    assert policy.folder_of("suite/conftest.py", Shop) == Path.cwd() / "suite"
    assert policy.folder_of("shop", Shop).name == "shop"


def test_targets_are_those_that_are_installed() -> None:
    assert {"netns", "podman"} <= set(references.providers().kinds)
