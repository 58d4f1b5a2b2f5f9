"""What a command gave: its status in words, its output in every form, and what is kept of it."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_carthage.handles.result import Result

PLAIN = Result(
    machine="web",
    command="nginx -t",
    status=0,
    stdout="syntax is ok\n",
    stderr="a warning\n",
    started_at=1_700_000_000.0,
    duration_s=0.25,
)


@pytest.mark.parametrize(("status", "ok"), [(0, True), (1, False), (255, False), (-9, False)])
def test_result_is_ok_and_true_where_the_status_is_zero_only(status: int, ok: bool) -> None:
    result = replace(PLAIN, status=status)
    assert result.ok is ok
    assert bool(result) is ok


def test_result_with_status_zero_is_true_although_it_printed_nothing() -> None:
    silent = replace(PLAIN, stdout="", stderr="")
    assert silent
    assert str(silent) == ""


@pytest.mark.parametrize(
    ("stdout", "lines"),
    [
        ("", []),
        ("one", ["one"]),
        ("one\n", ["one"]),
        ("one\ntwo\n", ["one", "two"]),
        ("one\n\ntwo", ["one", "", "two"]),
        ("one\r\ntwo\r\n", ["one", "two"]),
        ("  indented \n", ["  indented "]),
        ("a\fb\vc\x1cd\x85e\u2028f\rg\n", ["a\fb\vc\x1cd\x85e\u2028f\rg"]),
        ("\n", [""]),
        ("\r\n\r", ["", "\r"]),
    ],
)
def test_lines_are_those_of_the_output_without_their_ends(stdout: str, lines: list[str]) -> None:
    assert replace(PLAIN, stdout=stdout).lines == lines


@given(text=st.text())
def test_lines_are_as_many_as_newlines_and_a_rest(text: str) -> None:
    lines = replace(PLAIN, stdout=text).lines
    assert len(lines) == text.count("\n") + (not text.endswith("\n") and text != "")
    assert "\n".join(lines).replace("\r", "") == text.removesuffix("\n").replace("\r", "")


def test_lines_and_text_are_of_standard_output_alone() -> None:
    assert PLAIN.lines == ["syntax is ok"]
    assert str(PLAIN) == "syntax is ok\n"


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("ls -l | wc -l", "ls -l | wc -l"),
        (("ls", "-l"), "ls -l"),
        (("rm", "a file"), "rm 'a file'"),
        (("echo", "it's", ""), """echo 'it'"'"'s' ''"""),
        (("sh", "-c", "a | b"), "sh -c 'a | b'"),
    ],
)
def test_command_is_told_as_one_would_type_it(command: str | tuple[str, ...], text: str) -> None:
    assert replace(PLAIN, command=command).text == text


def test_bytes_are_what_came_in_every_encoding() -> None:
    assert replace(PLAIN, stdout="grüße").stdout_bytes == b"gr\xc3\xbc\xc3\x9fe"
    assert replace(PLAIN, stderr="grüße", encoding="latin-1").stderr_bytes == b"gr\xfc\xdfe"
    assert replace(PLAIN, stdout="a\udcff").stdout_bytes == b"a\xff"


def test_record_of_a_secret_result_has_no_output_and_the_result_itself_has() -> None:
    secret = replace(PLAIN, stdout="hunter2", stderr="hunter3", secret=True)
    record = secret.record
    assert (record.stdout, record.stderr) == ("", "")
    assert (record.stdout_bytes, record.stderr_bytes) == (b"", b"")
    assert (record.machine, record.text, record.status) == ("web", "nginx -t", 0)
    assert (record.started_at, record.duration_s) == (PLAIN.started_at, PLAIN.duration_s)
    assert record.secret
    assert (secret.stdout, secret.lines) == ("hunter2", ["hunter2"])


def test_record_of_a_long_secret_is_as_empty_as_that_of_a_short_one() -> None:
    record = replace(PLAIN, stdout="x" * 100_000, secret=True).record
    assert (record.stdout, record.stderr) == ("", "")


@given(stdout=st.integers(0, 40_000), stderr=st.integers(0, 40_000))
def test_record_never_has_much_more_than_what_is_kept(stdout: int, stderr: int) -> None:
    whole = replace(PLAIN, stdout="o" * stdout, stderr="e" * stderr)
    record = whole.record
    for kept, length in ((record.stdout, stdout), (record.stderr, stderr)):
        if length <= 32_768:
            assert len(kept) == length
        else:
            assert f"[... {length - 32_768} characters are left out of this record ...]" in kept
            assert len(kept) < 32_768 + 100


def test_representation_is_what_a_reader_of_a_failed_assertion_needs() -> None:
    assert repr(PLAIN) == (
        "<Result of 'nginx -t' on web: status 0 in 0.25 s, stdout 'syntax is ok', "
        "stderr 'a warning'>"
    )
    assert repr(replace(PLAIN, command=("false",), user="www-data", stdout="", status=1)) == (
        "<Result of 'false' on web as www-data: status 1 in 0.25 s, stderr 'a warning'>"
    )
    assert repr(replace(PLAIN, stdout="hunter2", stderr="hunter3", secret=True)) == (
        "<Result of 'nginx -t' on web: status 0 in 0.25 s, secret>"
    )


def test_representation_has_the_beginning_of_the_command_and_the_end_of_the_output() -> None:
    long = replace(PLAIN, command=f"apt-get install {'x' * 99}", stderr="line\n" * 99 + "last\n")
    told = repr(long)
    assert told.startswith("<Result of 'apt-get install xxx")
    assert "xxx...' on web: status 0 in 0.25 s, stdout 'syntax is ok', stderr '..." in told
    assert told.endswith("\\nline\\nlast'>")


@given(command=st.text(), stdout=st.text(), stderr=st.text())
def test_representation_is_one_line_that_pytest_does_not_cut(
    command: str, stdout: str, stderr: str
) -> None:
    told = repr(replace(PLAIN, command=command, stdout=stdout, stderr=stderr))
    assert len(told) <= 240
    assert told.isprintable()


def test_result_cannot_be_changed_afterwards() -> None:
    with pytest.raises(FrozenInstanceError):
        PLAIN.status = 1  # type: ignore[misc]
