"""Requests and answers of HTTP/1.1, as far as package managers use it (RFC 9112)."""

from __future__ import annotations

import asyncio
import email.utils
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

__all__ = ["Answer", "Request", "read_request", "write_answer"]

#: apt takes so many bytes of a reason
_LONGEST_REASON = 340
_REASONS = {200: "OK", 304: "Not Modified"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a machine asks for."""

    method: str
    #: ``"http://host/path"``, as it was asked; of CONNECT ``"host:port"``
    url: str
    #: in lower case
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        """Whom it is asked of, with the port where one is named."""
        return urlsplit(self.url).netloc

    @property
    def path(self) -> str:
        """What is asked for there, unquoted."""
        return unquote(urlsplit(self.url).path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What it gets."""

    status: int = 200
    #: one line that people read where the status is no good one
    reason: str = ""
    #: bytes, the path of a file, or a file that is open
    content: bytes | Path | BinaryIO = b""
    kind: str = "application/octet-stream"
    #: when it was changed, in seconds since the epoch; 0: that is not known
    changed_at: float = 0.0

    @classmethod
    def refused(cls, reason: str, *, status: int = 403) -> Answer:
        """No, and why."""
        return cls(status=status, reason=reason, content=f"{reason}\n".encode(), kind="text/plain")


async def read_request(reader: asyncio.StreamReader, scheme: str, host: str) -> Request | None:
    """Read the next request; None: there is none, or none that could be understood.

    :param scheme: of an address without one.
    :param host: whom the connection leads to, where that is known.
    """
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
        return None
    first, *lines = head.rstrip().split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return None
    method, target, _ = words
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    if (length := headers.get("content-length", "")).isdecimal():
        await reader.readexactly(int(length))
    if target.startswith("/"):
        target = f"{scheme}://{host or headers.get('host', '')}{target}"
    return Request(method=method, url=target, headers=headers)


async def write_answer(writer: asyncio.StreamWriter, request: Request, answer: Answer) -> None:
    """Write an answer; a file is handed to the kernel."""
    since = request.headers.get("if-modified-since", "")
    if answer.status == 200 and answer.changed_at and since:
        before = email.utils.parsedate_tz(since)
        if before is not None and email.utils.mktime_tz(before) >= int(answer.changed_at):
            answer = Answer(status=304, changed_at=answer.changed_at)
    content = answer.content
    file: BinaryIO | None = None
    if isinstance(content, Path):
        file = content.open("rb")
    elif not isinstance(content, bytes):
        file = content
    try:
        size = len(content) if isinstance(content, bytes) else _size(file)
        reason = " ".join((answer.reason or _REASONS.get(answer.status, "")).split())
        reason = reason.encode("ascii", "replace").decode()[:_LONGEST_REASON]
        lines = [
            f"HTTP/1.1 {answer.status} {reason}",
            f"Content-Length: {size}",
            f"Content-Type: {answer.kind}",
        ]
        if answer.changed_at:
            lines.append(f"Last-Modified: {email.utils.formatdate(answer.changed_at, usegmt=True)}")
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        if request.method != "HEAD":
            if isinstance(content, bytes):
                writer.write(content)
            elif file is not None and size:
                await writer.drain()
                await asyncio.get_running_loop().sendfile(writer.transport, file, count=size)
        await writer.drain()
    finally:
        if file is not None:
            file.close()


def _size(file: BinaryIO | None) -> int:
    assert file is not None
    size = file.seek(0, 2)
    file.seek(0)
    return size
