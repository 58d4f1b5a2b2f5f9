"""Folders as a tar, by a program of its own.

So it can be run where the users of a user namespace are seen as they are inside, is ended when it
is in the way, and leaves the interpreter that waits for it alone. The request is JSON on standard
input, the answer JSON on standard output.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from typing import Any

from pytest_carthage.images.exports.tars.sinks import Gzip, Sink, write_all
from pytest_carthage.images.exports.tars.tree import Tar, Unpackable

__all__ = ["main", "pack"]


def pack(request: dict[str, Any], out: int) -> dict[str, Any]:
    """Write a tar.

    :param request: ``trees`` (the top first), ``epoch``, ``layer``, ``sparse``, ``hash``,
        ``gzip``.
    :param out: descriptor that is written to; negative: only looked at.
    """
    plain = hashlib.sha256() if request["hash"] else None
    packed = hashlib.sha256()
    written = 0

    def write_packed(data: bytes) -> None:
        nonlocal written
        packed.update(data)
        written += len(data)
        write_all(out, data)

    sinks = [] if plain is None else [Sink(plain.update)]
    compressor = Gzip(write_packed) if request["gzip"] else None
    if compressor is not None:
        sinks.append(Sink(compressor.put))
    elif out >= 0:
        sinks.append(Sink(lambda data: write_all(out, data)))

    def put(data: bytes) -> None:
        for sink in sinks:
            sink.put(data)

    tar = Tar(
        put, epoch=request["epoch"], is_layer=request["layer"], sparse=request.get("sparse", False)
    )
    sys.setrecursionlimit(10_000)  # a path may have 2,000 folders
    tar.add([os.fsencode(tree) for tree in request["trees"]])
    tar.end()
    for sink in sinks:
        sink.close()
    if compressor is not None:
        compressor.close()
    return {
        "digest": None if plain is None else f"sha256:{plain.hexdigest()}",
        "size": tar.size,
        "entries": tar.entries,
        "packed_digest": f"sha256:{packed.hexdigest()}" if request["gzip"] else None,
        "packed_size": written if request["gzip"] else tar.size,
    }


def main() -> None:
    """Answer one request."""
    request = json.load(sys.stdin)
    try:
        answer = pack(request, request["out"])
    except Unpackable as error:
        answer = {"error": str(error)}
    except OSError as error:
        answer = {"error": str(error), "errno": error.errno}
    print(json.dumps(answer), flush=True)
    os._exit(0)  # a sink that failed may have a thread that waits
