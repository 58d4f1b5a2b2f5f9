"""What an agent says is foreign input: whoever is root in a machine may have it say anything."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.channels.far.deputy import deputy_by_stream
from pytest_carthage.channels.far.inside.wire import (
    DATA,
    HELLO,
    MARK_BYTES,
    MESSAGE,
    MOST,
    WELCOME,
    FrameReader,
    frame,
)
from pytest_carthage.errors import FabricError
from tests.channels.conftest import Bench, served_by

Answer = Callable[[dict[str, Any]], bytes]


def _record(value: object) -> bytes:
    return frame(MESSAGE, 0, json.dumps(value).encode())


class Liar:
    """Answers one deputy after another; what is asked first it answers with a lie."""

    def __init__(self, path: Path, lie: Answer) -> None:
        self.path = path
        self._lie: Answer | None = lie
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                with sock, contextlib.suppress(OSError):
                    self._talk(sock)

    def _talk(self, sock: socket.socket) -> None:
        frames = FrameReader((HELLO,))
        while count := sock.recv_into(frames.room()):
            frames.took(count)
            while (taken := frames.next()) is not None:
                kind, _, payload = taken
                if kind == 0:
                    sock.sendall(WELCOME + payload[-MARK_BYTES // 2 :] + _record({"boot": "1"}))
                elif kind == MESSAGE:
                    asked = json.loads(payload)
                    lie, self._lie = self._lie, None
                    truth = _record({"id": asked["id"], "ok": True})
                    sock.sendall(lie(asked) if lie is not None else truth)

    def close(self) -> None:
        self._listener.close()


@contextlib.contextmanager
def lied_to(folder: Path, lie: Answer) -> Iterator[Bench]:
    path = folder / "agent.sock"
    with contextlib.closing(Liar(path, lie)), served_by(deputy_by_stream(unix=path)) as bench:
        yield bench


LIES: dict[str, Answer] = {
    "no object": lambda asked: _record([1]),
    "no answer": lambda asked: _record({"id": asked["id"]}),
    "no JSON": lambda asked: frame(MESSAGE, 0, b"{" * 1000),
    "news of nothing": lambda asked: _record({"fact": 1}),
    "end of nothing": lambda asked: _record({"ended": "x", "status": []}),
    "a number that is none": lambda asked: frame(5, 1, b"123") + _record({}),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_lie_is_told_at_once_and_hurts_nobody_later(tmp_path: Path, lie: Answer) -> None:
    with lied_to(tmp_path, lie) as bench:
        with pytest.raises(FabricError, match="machine 'web'"):
            bench.ask("ping")
        bench.forget()
        assert bench.ask("ping")[0]["ok"]


def test_file_that_never_ends_is_given_up(tmp_path: Path) -> None:
    def flood(asked: dict[str, Any]) -> bytes:
        told = _record({"id": asked["id"], "ok": True, "size": 10, "mode": 0o100644})
        return told + frame(DATA, asked["streams"][0], bytes(MOST)) * ((64 << 20) // MOST + 1)

    with lied_to(tmp_path, flood) as bench:
        with pytest.raises(FabricError, match="machine 'web'"):
            bench.ask("open", path="/x", flags=0)
        bench.forget()
        assert bench.ask("ping")[0]["ok"]
