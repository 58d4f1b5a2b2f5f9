"""Requests and answers, as package managers write and read them."""

from __future__ import annotations

import asyncio
import email.utils
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_carthage.mirror.message import Answer, Request, read_request, write_answer

ASKED = Request(method="GET", url="http://x.example/a%2bb?c")


def read(data: bytes, scheme: str = "http", host: str = "") -> Request | None:
    async def go() -> Request | None:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        return await read_request(reader, scheme, host)

    return asyncio.run(go())


def written(answer: Answer, request: Request = ASKED) -> tuple[list[str], bytes]:
    """Lines of the head, and what follows."""

    async def go() -> bytes:
        ours, theirs = socket.socketpair()
        reader, own = await asyncio.open_connection(sock=ours)
        _, writer = await asyncio.open_connection(sock=theirs)
        await write_answer(writer, request, answer)
        writer.close()
        data = await reader.read()
        own.close()
        return data

    head, _, body = asyncio.run(go()).partition(b"\r\n\r\n")
    return head.decode().split("\r\n"), body


def test_request_of_a_proxy_has_host_and_unquoted_path() -> None:
    request = read(b"GET http://x.example:81/a%2bb HTTP/1.1\r\nHost: x\r\nA-B: c\r\n\r\n")
    assert request is not None
    assert (request.host, request.path) == ("x.example:81", "/a+b")
    assert request.headers["a-b"] == "c"


def test_request_within_a_tunnel_is_of_whom_that_leads_to() -> None:
    request = read(b"GET /a HTTP/1.1\r\nHost: y\r\n\r\n", "https", "x.example")
    assert request is not None
    assert request.url == "https://x.example/a"


@pytest.mark.parametrize("data", [b"", b"GET /", b"what is this\r\n\r\n", b"x" * 100000])
def test_what_is_no_request_is_none(data: bytes) -> None:
    assert read(data) is None


def test_answer_with_a_file_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "deb").write_bytes(b"x" * 100000)
    head, body = written(Answer(content=tmp_path / "deb"))
    assert head[:2] == ["HTTP/1.1 200 OK", "Content-Length: 100000"]
    assert body == b"x" * 100000


def test_refusal_says_on_one_line_as_much_as_apt_reads() -> None:
    head, body = written(Answer.refused("no\nand no\u2026 " + "x" * 500))
    assert head[0].startswith("HTTP/1.1 403 no and no? xxx")
    assert len(head[0]) < 360
    assert body.startswith(b"no\nand no")


def test_answer_that_has_not_changed_since_is_empty() -> None:
    answer = Answer(content=b"lists", changed_at=1000.5)
    stamp = email.utils.formatdate(1000, usegmt=True)
    again = replace(ASKED, headers={"if-modified-since": stamp})
    head, body = written(answer, again)
    assert (head[0], body) == ("HTTP/1.1 304 Not Modified", b"")
    before = email.utils.formatdate(999, usegmt=True)
    head, body = written(answer, replace(ASKED, headers={"if-modified-since": before}))
    assert (head[0], body) == ("HTTP/1.1 200 OK", b"lists")


def test_head_has_no_body() -> None:
    head, body = written(Answer(content=b"lists"), replace(ASKED, method="HEAD"))
    assert "Content-Length: 5" in head
    assert body == b""
