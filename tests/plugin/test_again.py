"""The command that runs one test again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_carthage.plugin.again import again


def config(args: list[str], *, files: list[str], folder: str = "/suite", **more: Any) -> Any:
    return SimpleNamespace(
        invocation_params=SimpleNamespace(args=args, dir=Path(folder)),
        option=SimpleNamespace(file_or_dir=files),
        rootpath=Path("/suite"),
        **more,
    )


@pytest.mark.parametrize(
    ("args", "files", "command"),
    [
        ([], [], "pytest t.py::test_it"),
        (["-q", "tests", "--carthage-pcap"], ["tests"], "pytest -q --carthage-pcap t.py::test_it"),
        (["-n", "4", "-nauto", "--dist=load", "-x"], [], "pytest -x t.py::test_it"),
        (["-k", "a or b", "-m", "slow", "--lf", "-v"], [], "pytest -v t.py::test_it"),
        (
            ["--carthage-artifacts", "out", "out"],
            ["out"],
            "pytest --carthage-artifacts out t.py::test_it",
        ),
        (["--name=a b"], [], "pytest '--name=a b' t.py::test_it"),
    ],
)
def test_options_stay_and_what_chooses_tests_goes(
    args: list[str], files: list[str], command: str
) -> None:
    assert again(config(args, files=files), "t.py::test_it") == f"cd /suite && {command}"


def test_test_is_named_from_the_folder_where_pytest_was_started() -> None:
    made = config([], files=[], folder="/suite/web shop")
    assert again(made, "web shop/t.py::test_it[a b]") == (
        "cd '/suite/web shop' && pytest 't.py::test_it[a b]'"
    )
    assert again(made, "t.py::test_it") == "cd '/suite/web shop' && pytest ../t.py::test_it"


def test_worker_has_the_options_of_its_controller() -> None:
    workerinput = {"mainargv": ["/bin/pytest", "-n", "2", "--carthage-strict", "tests"]}
    made = config(["-c", "x"], files=["tests"], workerinput=workerinput)
    assert again(made, "t.py::test_it") == "cd /suite && pytest --carthage-strict t.py::test_it"
