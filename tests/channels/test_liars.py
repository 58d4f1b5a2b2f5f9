"""A deputy whose machine answers whatever it likes: who asks is told, the next one is served."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.channels.deputy import deputy_by_command
from pytest_carthage.errors import FabricError
from pytest_carthage.fabric.wire import frames
from pytest_carthage.fabric.wire.channel import AsyncChannel
from tests.channels.conftest import WHO, Bench, serving, settled

LIAR = """\
folder=$1
cat "$folder/errors" >&2
cat "$folder/output"
[ ! -e "$folder/stays" ] || exec sleep 600
exit "$(cat "$folder/status")"
"""


class Liar:
    """A machine that says the same to whatever it is asked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.says()

    def says(
        self, output: bytes = b"", errors: bytes = b"", status: int = 0, *, stays: bool = False
    ) -> None:
        """From now on.

        :param stays: it says that, and then does not end.
        """
        (self._folder / "output").write_bytes(output)
        (self._folder / "errors").write_bytes(errors)
        (self._folder / "status").write_text(str(status))
        (self._folder / "stays").unlink(missing_ok=True)
        if stays:
            (self._folder / "stays").touch()


@pytest.fixture(scope="module")
def _lied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, Liar]]:
    folder = tmp_path_factory.mktemp("liar")
    liar = Liar(folder)
    with serving(deputy_by_command(["sh", "-c", LIAR, "sh", str(folder)])) as bench:
        yield bench, liar


@pytest.fixture
def liar(_lied: tuple[Bench, Liar]) -> Iterator[Liar]:
    """What the machine says."""
    bench, liar = _lied
    liar.says()
    yield liar
    bench.check_rest()


@pytest.fixture
def bench(_lied: tuple[Bench, Liar]) -> Bench:
    """Its deputy."""
    return _lied[0]


def asked(bench: Bench, op: str, **fields: Any) -> str:
    """What becomes of a request: the words of its refusal, after which another is answered."""

    async def conversation(opened: AsyncChannel) -> str:
        with pytest.raises(FabricError) as caught:
            await opened.request(op, **fields)
        assert str(caught.value).startswith(f"{WHO}: ")
        assert not opened.closed
        return str(caught.value)

    return bench.talk(conversation)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (b"", "b''"),
        (b"81a4 0 0 7\n", "81a4 0 0 7"),
        (b"81a4 0 0 7 1 2\n", "81a4 0 0 7 1 2"),
        (b"mode 0 0 7 1\n", "mode 0 0 7 1"),
        (b"81a4 root 0 7 1\n", "81a4 root 0 7 1"),
        (b"81a4 0 0 7 soon\n", "81a4 0 0 7 soon"),
        (b"\xff\xfe 0 0 7 1\n", "xfe 0 0 7 1"),
    ],
)
def test_status_of_a_file_that_is_none_is_told(
    bench: Bench, liar: Liar, output: bytes, words: str
) -> None:
    liar.says(output)
    text = asked(bench, "stat", path="/etc/hosts")
    assert "its stat(1) printed b" in text
    assert words in text
    assert text.endswith("which is no status: '/etc/hosts'")


@pytest.mark.parametrize(
    ("op", "fields"),
    [
        ("stat", {"path": "/x"}),
        ("listdir", {"path": "/x"}),
        ("mkdirs", {"path": "/x"}),
        ("symlink", {"path": "/x", "target": "y"}),
        ("chmod", {"path": "/x", "mode": 0o600}),
        ("chown", {"path": "/x", "user": "root"}),
        ("open", {"path": "/x", "flags": os.O_RDONLY}),
        ("open", {"path": "/x", "flags": os.O_RDWR}),
        ("lookup", {"host": "x"}),
        ("connect", {"host": "x", "port": 80}),
        ("connect", {"host": "127.0.0.1", "port": 80}),
        ("ping", {}),
    ],
)
def test_failure_is_told_in_the_machines_last_words(
    bench: Bench, liar: Liar, op: str, fields: dict[str, Any]
) -> None:
    liar.says(b"", b"Warning: welcome to this server\nkex_exchange: \xff closed\n", 255)
    assert "kex_exchange: \ufffd closed" in asked(bench, op, **fields)
    liar.says(b"", b"", 255)
    assert "it ended with status 255" in asked(bench, op, **fields)


def test_names_that_lead_elsewhere_end_the_connection_by_name(bench: Bench, liar: Liar) -> None:
    liar.says(b"../../etc/passwd\0fine\0")

    async def conversation(opened: AsyncChannel) -> None:
        with pytest.raises(FabricError, match=rf"^{WHO}: it sent a reply to 'listdir' whose names"):
            await opened.request("listdir", path="/srv")
        assert opened.closed
        with pytest.raises(FabricError, match="is not talked to any more"):
            await opened.request("ping")

    bench.talk(conversation)
    assert bench.ask("ping")[0]["ok"]  # others are served


def test_names_without_their_end_are_left_out(bench: Bench, liar: Liar) -> None:
    liar.says(b"whole\0cut of")
    assert bench.ask("listdir", path="/srv")[0]["names"] == ["whole"]


@pytest.mark.parametrize(
    "output", [b"", b"\xff\xfe\n", b"no columns\n", b"  sl local rem st\n 0: x y z\n" * 3]
)
def test_tables_that_are_none_list_nothing_or_are_told(
    bench: Bench, liar: Liar, output: bytes
) -> None:
    liar.says(output)

    async def conversation(opened: AsyncChannel) -> None:
        with contextlib.suppress(FabricError):
            reply, _ = await opened.request("listening")
            assert reply["listening"] == []
        assert not opened.closed

    bench.talk(conversation)


def test_hosts_that_are_no_text_have_nobody(bench: Bench, liar: Liar) -> None:
    liar.says(b"\xff\xfe\0 db\n# 10.0.0.1 db\n10.0.0.2\n")
    assert "no host 'web' in /etc/hosts" in asked(bench, "lookup", host="web")
    liar.says(b"\xff 10.0.0.1 db\n")
    assert bench.ask("lookup", host="db")[0]["address"] == "\ufffd"


@pytest.mark.parametrize("output", [b"-", b"x+", b"\n+", b""])
def test_connector_that_says_something_else_is_no_connection(
    bench: Bench, liar: Liar, output: bytes
) -> None:
    liar.says(output, b"Traceback:\nImportError: no module socket\n", 1)
    words = asked(bench, "connect", host="127.0.0.1", port=80)
    assert "ImportError: no module socket" in words


def test_connection_that_is_one_by_its_word_carries_what_the_machine_says(
    bench: Bench, liar: Liar
) -> None:
    liar.says(b"+not a service")
    _, (fd,) = bench.ask("connect", host="127.0.0.1", port=80)
    with socket.socket(fileno=fd) as near:
        near.settimeout(10)
        assert near.makefile("rb").read() == b"not a service"


def test_machine_that_never_answers_keeps_no_other_waiting_and_is_given_up(
    bench: Bench, liar: Liar
) -> None:
    liar.says(stays=True)

    async def conversation(opened: AsyncChannel) -> None:
        for op, fields in (
            ("stat", {"path": "/x"}),
            ("open", {"path": "/x", "flags": os.O_RDWR}),
            ("connect", {"host": "127.0.0.1", "port": 80}),
            ("listening", {}),
        ):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await opened.request(op, **fields)
        assert (await opened.request("kill", job=1, signal=9))[0]["ok"]
        nobody: list[int] = []
        assert await asyncio.to_thread(settled, lambda: bench.children, nobody) == nobody

    bench.talk(conversation)


def test_deputy_that_is_killed_takes_its_commands_along(tmp_path: Path) -> None:
    """Those of this host, as ssh(1): what it runs elsewhere is another's."""
    liar = Liar(tmp_path)
    command = deputy_by_command(["sh", "-c", LIAR, "sh", str(tmp_path)])
    with serving(command, status=-signal.SIGKILL) as made, made.raw() as client:
        liar.says(stays=True)
        frames.send(client, {"id": 2, "op": "stat", "path": "/x"})
        assert settled(lambda: len(made.children), 1) == 1
        (child,) = made.children
        os.kill(made.process, signal.SIGKILL)
        assert settled(lambda: is_alive(child), wanted=False) is False


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# copies


def test_copy_is_of_the_connection_that_has_opened_it(bench: Bench, liar: Liar) -> None:
    liar.says(b"content")
    reply, (fd,) = bench.ask("open", path="/srv/x", flags=os.O_RDWR)
    os.close(fd)
    assert "no copy 1" in asked(bench, "commit", number=reply["commit"])
    assert "no copy 99" in asked(bench, "commit", number=99)
    assert "'number'" in asked(bench, "commit")
    bench.ask("commit", number=reply["commit"], keep=False)


def test_copies_of_a_client_that_has_left_are_closed(bench: Bench, liar: Liar) -> None:
    liar.says(b"content")

    async def conversation(opened: AsyncChannel) -> None:
        for _ in range(3):
            _, (fd,) = await opened.request("open", path="/srv/x", flags=os.O_RDWR)
            assert os.read(fd, 100) == b"content"
            os.close(fd)

    bench.talk(conversation)  # that nothing is left is looked at in the end


def test_copy_that_cannot_be_given_back_is_told_and_gone(bench: Bench, liar: Liar) -> None:
    reply, (fd,) = bench.ask("open", path="/srv/x", flags=os.O_WRONLY | os.O_CREAT)
    os.close(fd)
    liar.says(b"", b"sh: cannot create /srv/x: Read-only file system\n", 2)

    async def commit() -> None:
        with pytest.raises(FabricError, match="Read-only file system"):
            await (await bench._kept()).request("commit", number=reply["commit"])
        with pytest.raises(FabricError, match=f"no copy {reply['commit']}"):
            await (await bench._kept()).request("commit", number=reply["commit"])

    bench.portal.call(commit)


def test_large_content_is_a_copy_of_its_own_each_time(bench: Bench, liar: Liar) -> None:
    data = os.urandom(1 << 20)
    liar.says(data)
    for _ in range(2):
        _, (fd,) = bench.ask("open", path="/srv/x", flags=os.O_RDONLY)
        with os.fdopen(fd, "rb") as file:
            assert file.read() == data
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.write(fd, b"x")
