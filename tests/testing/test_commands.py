"""Commands of a fake machine: answers by pattern, and the programs that it has by itself."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from pytest_carthage.errors import FabricError
from pytest_carthage.testing import Answer, Answers, Call, FakeMachine, Output


@pytest.fixture
def machine() -> Iterator[FakeMachine]:
    made = FakeMachine("web", hostname="web.example", files={"/etc/motd": "hello\n"})
    yield made
    made.files.close()


def call(machine: FakeMachine, *argv: str, **more: Any) -> Call:
    """A command; one word is a text for a shell."""
    words = ("/bin/sh", "-c", *argv) if len(argv) == 1 else argv
    return Call(machine=machine, argv=words, **more)


def run(machine: FakeMachine, *argv: str, **more: Any) -> Output:
    return asyncio.run(machine.run(call(machine, *argv, **more)))


# what was asked


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (("/bin/sh", "-c", "a | b"), "a | b"),
        (("sh", "-c", "a"), "a"),
        (("/bin/bash", "-c", "a"), "/bin/bash -c a"),
        (("sh", "-c", "a", "b"), "sh -c a b"),
        (("echo", "a b", "$x"), "echo 'a b' '$x'"),
        ((), ""),
    ],
)
def test_text_of_a_command_is_what_one_would_type(
    machine: FakeMachine, argv: tuple[str, ...], text: str
) -> None:
    assert Call(machine=machine, argv=argv).text == text


# answers


def answer(machine: FakeMachine, answers: Mapping[str, Answer], text: str) -> Output | None:
    return asyncio.run(Answers(answers).to(call(machine, text)))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("text", Output(stdout="text")),
        (b"\xff", Output(stdout=b"\xff")),
        (3, Output(status=3)),
        (0, Output()),
        (True, Output()),
        (False, Output(status=1)),
        (Output(stderr="oops", status=-9), Output(stderr="oops", status=-9)),
        (None, None),
    ],
)
def test_answer_is_given_as_it_is_or_by_a_function(
    machine: FakeMachine, given: Any, expected: Output | None
) -> None:
    async def later(call: Call) -> Any:
        await asyncio.sleep(0)
        return given

    async def inner() -> Any:
        return given

    answers: list[Any] = [given, lambda call: given, later, lambda call: inner()]
    for each in answers:
        assert answer(machine, {"it": each}, "it") == expected


def test_last_pattern_that_answers_does(machine: FakeMachine) -> None:
    answers = Answers({"psql *": "any", "psql -c *": "given", "*": None})
    assert asyncio.run(answers.to(call(machine, "psql -c tills"))) == Output(stdout="given")
    assert asyncio.run(answers.to(call(machine, "psql -l"))) == Output(stdout="any")
    assert asyncio.run(answers.to(call(machine, "mysql"))) is None
    answers.add("psql -l", "newer")
    assert asyncio.run(answers.to(call(machine, "psql -l"))) == Output(stdout="newer")


def test_pattern_is_of_the_whole_text_and_minds_the_case(machine: FakeMachine) -> None:
    assert answer(machine, {"psql": "x"}, "psql -l") is None
    assert answer(machine, {"PSQL": "x"}, "psql") is None
    assert answer(machine, {"p?ql [ab]": "x"}, "psql b") == Output(stdout="x")


@pytest.mark.parametrize("given", [1.5, ["x"], object, {"a": 1}])
def test_answer_that_is_none_says_what_is_one(machine: FakeMachine, given: Any) -> None:
    with pytest.raises(FabricError, match=r"the answer to 'it' is .*; try: text, a status, an Out"):
        answer(machine, {"it": lambda call: given}, "it")


def test_failing_answer_names_the_command_the_error_and_the_line(machine: FakeMachine) -> None:
    def fails(call: Call) -> str:
        raise KeyError("mine")

    line = fails.__code__.co_firstlineno + 1
    with pytest.raises(
        FabricError,
        match=rf"fake machine 'web': the answer to 'it' failed: KeyError: 'mine' .*:{line}\)",
    ) as caught:
        answer(machine, {"it": fails}, "it")
    assert isinstance(caught.value.__cause__, KeyError)


def test_answer_comes_before_a_program_and_every_command_is_noted(machine: FakeMachine) -> None:
    machine.answer("hostname", "other\n")
    assert run(machine, "hostname").stdout == "other\n"
    assert run(machine, "uname -n").stdout == "web.example\n"
    assert run(machine, "make coffee").status == 127
    assert machine.commands == ["hostname", "uname -n", "make coffee"]


def test_command_that_nobody_answers_says_what_to_do(machine: FakeMachine) -> None:
    output = run(machine, "pg_dump", "shop")
    assert output.status == 127
    assert output.stderr == (
        "fake machine 'web': nothing answers 'pg_dump shop'; try: answers={'pg_dump shop': ...}\n"
    )


# programs


@pytest.mark.parametrize(
    ("argv", "stdout", "status"),
    [
        (("true",), "", 0),
        (("/bin/true",), "", 0),
        (("/usr/bin/false",), "", 1),
        (("exit",), "", 0),
        (("exit 4",), "", 4),
        (("echo a  b",), "a b\n", 0),
        (("echo", "a  b", "*"), "a  b *\n", 0),
        (("echo 'a  $b'",), "a  $b\n", 0),
        (("hostname",), "web.example\n", 0),
        (("uname",), "Linux\n", 0),
        (("uname -m",), "x86_64\n", 0),
        (("id -un",), "shop\n", 0),
        (("id -u",), "1000\n", 0),
        (("pwd",), "/home/shop\n", 0),
        (("printenv A B",), "1\n2\n", 0),
        (("printenv A C",), "1\n", 1),
        (("printenv C",), "", 1),
        (("printenv",), "A=1\nB=2\n", 0),
        (("cat /etc/motd",), b"hello\n", 0),
        (("cat - /etc/motd -",), b"inhello\nin", 0),
        (("cat",), b"in", 0),
        (("test -e /etc/motd",), "", 0),
        (("test -f /etc/motd",), "", 0),
        (("test -d /etc/motd",), "", 1),
        (("test -d /etc",), "", 0),
        (("test -f /none",), "", 1),
        (("[ -e /none ]",), "", 1),
        (("[ -n x ]",), "", 0),
        (("test -z x",), "", 1),
        (("test", "-z", ""), "", 0),
        (("sleep 0",), "", 0),
        (("mkdir -p /srv/a/b",), "", 0),
    ],
)
def test_program_does_what_it_is_known_for(
    machine: FakeMachine, argv: tuple[str, ...], stdout: str | bytes, status: int
) -> None:
    output = run(machine, *argv, user="shop", env={"A": "1", "B": "2"}, input=b"in")
    assert (output.stdout, output.stderr, output.status) == (stdout, "", status)


@pytest.mark.parametrize(
    ("argv", "stderr", "status"),
    [
        (("cat /none",), "cat: /none: No such file or directory\n", 1),
        (("cat /etc",), "cat: /etc: Is a directory\n", 1),
        (("rm /none",), "rm: /none: No such file or directory\n", 1),
        (("rm /etc",), "rm: /etc: Is a directory\n", 1),
        (("rm -f /etc",), "rm: /etc: Is a directory\n", 1),
        (("mkdir -p /etc/motd",), "mkdir: /etc/motd: File exists\n", 1),
        (("sleep",), "'sleep': these arguments make no sense\n", 2),
        (("sleep soon",), "'sleep soon': these arguments make no sense\n", 2),
        (("exit now",), "'exit now': these arguments make no sense\n", 2),
        (("cat motd",), "'cat motd': these arguments make no sense\n", 2),
    ],
)
def test_program_that_fails_says_why(
    machine: FakeMachine, argv: tuple[str, ...], stderr: str, status: int
) -> None:
    output = run(machine, *argv)
    assert (output.stderr, output.status) == (stderr, status)


@pytest.mark.parametrize(
    "text",
    [
        *("echo a | cat", "echo $HOME", "echo a; echo b", "cat < /etc/motd", "cat /etc/*"),
        *("echo 'a", "A=1 printenv", "true && true", "echo `id`", "cat ~/x", "true # no"),
        *("uname -a", "test x = x", "id root", "mkdir /srv/x", ""),
    ],
)
def test_what_takes_a_shell_or_is_not_known_is_left_to_answers(
    machine: FakeMachine, text: str
) -> None:
    assert run(machine, text).status == 127


def test_files_are_removed_and_folders_with_what_is_in_them(machine: FakeMachine) -> None:
    machine.files.write("/srv/shop/a", "x")
    machine.files.symlink("/srv/link", "/srv/shop")
    assert run(machine, "rm /srv/link").status == 0
    assert machine.files["/srv/shop/a"] == "x"
    assert run(machine, "rm -r -f /srv/none /srv/shop/a/below /srv/shop").status == 0
    assert machine.files.listdir("/srv") == []
    machine.files.write("/srv/-x", "")
    machine.files.symlink("/srv/dangling", "nowhere")
    assert run(machine, "rm -f /srv/dangling /srv/-x").status == 0
    assert machine.files.listdir("/srv") == []


def test_folders_are_made_as_by_the_program(machine: FakeMachine) -> None:
    assert run(machine, "mkdir", "-p", "/srv/a b/c", "/srv/d").status == 0
    assert machine.files.listdir("/srv") == ["a b", "d"]
    assert stat.S_IMODE(int(machine.files.stat("/srv/d")["mode"])) == 0o755


def test_folder_of_a_command_is_what_it_was_given(machine: FakeMachine) -> None:
    assert run(machine, "pwd", cwd="/etc").stdout == "/etc\n"
    assert run(machine, "pwd").stdout == "/root\n"
