"""The few programs that every fake machine has: what its files and its accounts can answer."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import shlex
import stat
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from pytest_carthage.testing.commands import Output

if TYPE_CHECKING:
    from pytest_carthage.testing.commands import Call

__all__ = ["run_program"]

#: a text with one of these, outside of quotes, is for a shell
_OF_A_SHELL = frozenset("|&;<>()$`*?[]#~={}\\\n")


async def run_program(call: Call) -> Output | None:
    """Run a simple command by itself; None: there is no such program, or it takes a shell."""
    argv = _words(call)
    if not argv:
        return None
    program = _PROGRAMS.get(argv[0].removeprefix("/bin/").removeprefix("/usr/bin/"))
    if program is None:
        return None
    try:
        output = program(call, argv[1:])
        return output if isinstance(output, Output | None) else await output
    except OSError as error:
        return Output(stderr=f"{argv[0]}: {error.filename}: {error.strerror}\n", status=1)
    except (ValueError, LookupError):
        return Output(stderr=f"{call.text!r}: these arguments make no sense\n", status=2)


def _words(call: Call) -> list[str]:
    if call.text != call.argv[-1] or len(call.argv) != 3:
        return list(call.argv)
    bare = re.sub(r"'[^']*'", "", call.text)
    if _OF_A_SHELL & set(bare.removeprefix("[").removesuffix("]")):
        return []
    try:
        return shlex.split(call.text)
    except ValueError:  # it ends within quotes
        return []


def _cat(call: Call, words: list[str]) -> Output:
    files = [word for word in words if word != "--"]
    parts = [call.input if word == "-" else call.machine.files.read_bytes(word) for word in files]
    return Output(stdout=b"".join(parts) if files else call.input)


def _test(call: Call, words: list[str]) -> Output | None:
    words = words[:-1] if words[-1:] == ["]"] else words
    match words:
        case ["-e", path]:
            return Output(status=int(path not in call.machine.files))
        case ["-f" | "-d" as kind, path]:
            if path not in call.machine.files:
                return Output(status=1)
            mode = int(call.machine.files.stat(path)["mode"])
            return Output(status=int(stat.S_ISDIR(mode) != (kind == "-d")))
        case ["-n" | "-z" as kind, text]:
            return Output(status=int(bool(text) == (kind == "-z")))
    return None


def _id(call: Call, words: list[str]) -> Output | None:
    accounts = call.machine.files.accounts
    match words:
        case ["-un"]:
            return Output(stdout=f"{call.user}\n")
        case ["-u"]:
            return Output(stdout=f"{accounts.uid(call.user)}\n")
    return None


def _mkdir(call: Call, words: list[str]) -> Output | None:
    if words[:1] != ["-p"]:
        return None
    for path in words[1:]:
        call.machine.files.mkdirs(path)
    return Output()


def _rm(call: Call, words: list[str]) -> Output:
    files = call.machine.files
    options = "".join(word for word in words if word.startswith("-"))
    for path in (word for word in words if not word.startswith("-")):
        try:
            is_link = files.target(path) is not None
            is_folder = not is_link and stat.S_ISDIR(int(files.stat(path)["mode"]))
        except (FileNotFoundError, NotADirectoryError):
            if "f" in options:
                continue
            raise
        if is_folder and not {"r", "R"} & set(options):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        files.remove(path)
    return Output()


def _printenv(call: Call, words: list[str]) -> Output:
    if not words:
        return Output(stdout="".join(f"{name}={value}\n" for name, value in call.env.items()))
    values = [call.env[name] for name in words if name in call.env]
    return Output(
        stdout="".join(f"{value}\n" for value in values), status=int(len(values) < len(words))
    )


def _uname(call: Call, words: list[str]) -> Output | None:
    values = {"-s": "Linux", "-n": call.machine.hostname, "-m": "x86_64"}
    word = words[0] if words else "-s"
    return Output(stdout=f"{values[word]}\n") if word in values else None


async def _sleep(call: Call, words: list[str]) -> Output:
    await asyncio.sleep(float(words[0]))
    return Output()


_PROGRAMS: dict[str, Callable[[Call, list[str]], Output | Awaitable[Output] | None]] = {
    "[": _test,
    "cat": _cat,
    "echo": lambda call, words: Output(stdout=" ".join(words) + "\n"),
    "exit": lambda call, words: Output(status=int(words[0]) if words else 0),
    "false": lambda call, words: Output(status=1),
    "hostname": lambda call, words: Output(stdout=f"{call.machine.hostname}\n"),
    "id": _id,
    "mkdir": _mkdir,
    "printenv": _printenv,
    "pwd": lambda call, words: Output(stdout=f"{call.cwd or call.machine.home(call.user)}\n"),
    "rm": _rm,
    "sleep": _sleep,
    "test": _test,
    "true": lambda call, words: Output(),
    "uname": _uname,
}
