"""Scripts that run where nothing else is: in namespaces of their own, which end with them."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support.unprivileged import REPOSITORY


def alone(script: str, *, network: bool = False) -> str:
    """Run a script as the first process of a PID namespace; returns what it printed.

    :param network: in a network namespace, too, in which there is nothing but loopback.
    """
    around = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if network:
        around.append("--net")
    if os.geteuid():
        around[1:1] = ["--user", "--map-root-user"]
    done = subprocess.run(
        [*around, sys.executable, "-u", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        timeout=60,
    )
    return done.stdout
