"""Reports and commands as a bundle has them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pytest_carthage.handles.result import Result
from pytest_carthage.report.bundle.texts import record, summary_line, table, transcript

RESULT = Result(
    machine="web",
    command=("sh", "-c", "echo it works"),
    status=3,
    stdout="it works\n",
    stderr="no\nnewline",
    started_at=1_700_000_000.5,
    duration_s=0.01234567,
    user="nobody",
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("> assert x\nE   assert 0\nE    +  where 0 = f()\nt.py:3: AssertionError", "assert 0"),
        ("layout 'Shop': no disk\nits log: ...", "layout 'Shop': no disk"),
        ("\n\n  first words \nmore", "first words "),
        ("", ""),
    ],
)
def test_summary_is_what_pytest_marks_or_the_first_line(text: str, line: str) -> None:
    assert summary_line(text) == line


def test_table_has_aligned_columns_under_their_keys() -> None:
    rows: list[dict[str, object]] = [
        {"interface": "eth0", "address": "10.0.0.1/24", "up": True},
        {"interface": "lo", "address": None, "up": False},
    ]
    assert table(rows) == (
        "interface  address      up\neth0       10.0.0.1/24  yes\nlo         -            no\n"
    )


def test_table_of_nothing_says_so() -> None:
    assert table([]) == "(none)\n"


def test_transcript_reads_like_a_terminal() -> None:
    head, *rest = transcript(RESULT).splitlines()
    assert head.endswith("] $ sh -c 'echo it works' (as nobody)")
    assert rest == [
        "status 3 after 0.012 s",
        "--- stdout",
        "it works",
        "--- stderr",
        "no",
        "newline",
    ]


def test_transcript_without_output_and_user_is_two_lines() -> None:
    silent = replace(RESULT, command="true", stdout="", stderr="", user=None)
    head, status = transcript(silent).splitlines()
    assert head.endswith("] $ true")
    assert status == "status 3 after 0.012 s"


def test_transcript_of_a_secret_says_that_it_is_one() -> None:
    secret = replace(RESULT, secret=True).record
    assert transcript(secret).splitlines()[-1] == "--- output is secret"


def test_record_is_json_with_the_command_as_it_was_given() -> None:
    values = json.loads(json.dumps(record(RESULT)))
    assert values.pop("started").startswith("2023-11-1")
    assert values == {
        "command": ["sh", "-c", "echo it works"],
        "user": "nobody",
        "secret": False,
        "status": 3,
        "stdout": "it works\n",
        "stderr": "no\nnewline",
        "duration_s": 0.012346,
    }
    assert record(replace(RESULT, command="echo it works"))["command"] == "echo it works"
