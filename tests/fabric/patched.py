"""A fabric of a test's own, some of which is not as it should be.

``python patched.py SOCKET CODE`` runs ``CODE`` first, which may replace what it likes, prints a
line
when the fabric listens, and keeps that until its standard input ends.
"""

from __future__ import annotations

import os
import sys
import traceback

from pytest_carthage.fabric import init
from pytest_carthage.fabric.host import privilege
from pytest_carthage.fabric.wire import frames


def main(path: str, code: str) -> None:
    listener = frames.listen(path)
    exec(code, {})
    unprivileged = not privilege.is_privileged()
    init.leave_host(unprivileged=unprivileged)
    if os.fork():
        os.wait()
        return
    try:
        os.setsid()
        os.chdir("/")
        init.furnish()
        fabric = init.Fabric(listener, 0, unprivileged=unprivileged)
        print("listening", flush=True)
        fabric.server.run()
    except BaseException:
        traceback.print_exc()
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
