"""Log files as their machines printed them, also while they grow."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pytest

from pytest_carthage.cli.logs import _Log, _reader
from pytest_carthage.providers.podman.provider import PodmanProvider


def shout(log: bytes) -> bytes:
    """Stands for a provider that finds what was printed in whole lines."""
    assert log == b"" or log.endswith((b"\n", b"end")), log
    return log.upper()


def appended(file: io.BytesIO, data: bytes) -> None:
    at = file.tell()
    file.seek(0, io.SEEK_END)
    file.write(data)
    file.seek(at)


def test_log_is_printed_as_it_is_without_a_reader() -> None:
    file = io.BytesIO(b"born\nhalf a")
    log = _Log(file, None)
    assert log.read() == b"born\nhalf a"
    appended(file, b" line\xff\n")
    assert log.read() == b" line\xff\n"
    assert log.read(last=True) == b""


def test_log_that_was_shortened_is_read_from_its_beginning() -> None:
    file = io.BytesIO(b"a long beginning\n")
    log = _Log(file, None)
    assert log.read() == b"a long beginning\n"
    file.truncate(0)
    file.seek(0)
    file.write(b"short\n")
    file.seek(17)
    assert log.read() == b"short\n"
    assert log.read() == b""


def test_reader_is_given_whole_lines_only() -> None:
    file = io.BytesIO(b"born\nhalf a")
    log = _Log(file, shout)
    assert log.read() == b"BORN\n"
    assert log.read() == b""
    appended(file, b" line\nthe end")
    assert log.read() == b"HALF A LINE\n"
    assert log.read(last=True) == b"THE END"


@pytest.mark.parametrize(
    ("machine", "is_read"),
    [({"target": "netns"}, False), ({"target": "podman"}, True), ({"target": "cloud"}, False)],
)
def test_reader_is_the_providers_where_it_adds_to_logs(
    machine: Mapping[str, Any], is_read: bool
) -> None:
    assert (_reader(machine) is not None) is is_read


def test_podman_leaves_out_what_conmon_has_added() -> None:
    stamped = b"2024-01-01T00:00:00Z stdout P hel\n2024-01-01T00:00:00Z stdout F lo\n"
    assert PodmanProvider().printed(stamped) == b"hello\n"
