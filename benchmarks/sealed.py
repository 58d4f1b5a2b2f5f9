"""Programs of the alternatives, in namespaces of their own, so that nothing of them is left."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytest_carthage.fabric.host.programs import PATH
from pytest_carthage.images.host_store import host_store
from pytest_carthage.providers.podman import host
from pytest_carthage.state import cgroups

__all__ = ["Podman", "Sealed", "podman", "sealed"]

# First process of a PID namespace: when it ends, all that it started is gone. It reads a line
# of JSON with programs to run at the same time, and answers how long they took. Text for their
# standard input comes in a file, which does not fill up as a pipe does.
_RUNNER = """
import json, subprocess, sys, tempfile, time
for line in sys.stdin:
    request = json.loads(line)
    text = tempfile.TemporaryFile()
    text.write(request["input"].encode())
    text.seek(0)
    begin = time.perf_counter()
    running = [
        subprocess.Popen(argv, stdin=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for argv in request["programs"]
    ]
    outputs = [process.communicate()[0] for process in running]
    taken = time.perf_counter() - begin
    failed = [
        " ".join(argv)[:200] + ": " + output.decode(errors="replace")[-2000:]
        for argv, process, output in zip(request["programs"], running, outputs)
        if process.returncode
    ]
    print(json.dumps({"taken_s": taken, "failed": failed}), flush=True)
"""


class Sealed:
    """Runs programs in its own mount, PID, IPC and network namespaces, and times them."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def seconds(self, *programs: Sequence[str], input: str = "") -> float:
        """Run programs at the same time; returns the seconds until the last one has ended.

        :param input: standard input, of one program.
        :raises RuntimeError: one failed, with what it printed.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"programs": [list(one) for one in programs], "input": input}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line.startswith("{"):
            raise RuntimeError(f"no namespaces for programs: {line or 'unshare failed'}")
        answer: dict[str, Any] = json.loads(line)
        if answer["failed"]:
            raise RuntimeError("\n".join(answer["failed"]))
        return float(answer["taken_s"])


@contextmanager
def sealed(
    *setup: str, env: dict[str, str] | None = None, network: bool = False
) -> Iterator[Sealed]:
    """Namespaces with a private ``/run`` and shared memory; ``setup``: shell commands first.

    :param network: the host's network, for what has to download.
    """
    steps = ["exec 2>&1", "mount -t tmpfs tmpfs /run", "mount -t tmpfs tmpfs /dev/shm"]
    steps += [*([] if network else ["ip link set lo up"]), *setup, 'exec "$0" -I -c "$1"']
    flags = ["--mount", "--pid", "--ipc", "--fork", "--kill-child", "--mount-proc"]
    if not network:
        flags.append("--net")
    process = subprocess.Popen(
        ["unshare", *flags, "sh", "-ec", "\n".join(steps), sys.executable, _RUNNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # it does not know that its child was meant to be killed
        env={"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", **(env or {})},
        text=True,
        start_new_session=True,  # Ctrl-C is for us, who end it
    )
    try:
        yield Sealed(process)
    finally:
        _end(process)
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                continue


def _end(process: subprocess.Popen[str]) -> None:
    """End a program of ``unshare --fork --kill-child``, and wait until all in there have ended.

    To kill its child is to kill the first process of a PID namespace, which ends as the last.
    """
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):
        children = []
    if not children:
        process.kill()
    process.wait()


class Podman:
    """Podman's own command line, on a store of its own above the host's images."""

    def __init__(self, inside: Sealed, control_group: str) -> None:
        self._inside = inside
        self._control_group = control_group

    def argv(self, command: str, *arguments: str) -> list[str]:
        """A command line of podman."""
        if command in ("build", "run"):
            arguments = (f"--cgroup-parent={self._control_group}", *arguments)
        return ["podman", command, *arguments]

    def seconds(self, *commands: Sequence[str]) -> float:
        """Run podman's commands at the same time; returns the seconds until all have ended.

        :raises RuntimeError: one failed, with what it printed.
        """
        return self._inside.seconds(*(self.argv(*command) for command in commands))

    def script(self, *lines: str) -> float:
        """Run lines of shell one after the other; returns the seconds. ``$run``: podman run."""
        begin = f'run="podman run --cgroup-parent={self._control_group}"'
        return self._inside.seconds(["sh", "-ec", "\n".join((begin, *lines))])


@contextmanager
def _configured(engine: host.Engine) -> Iterator[dict[str, str]]:
    """Environment variables of podman with this project's configuration, and its own store."""
    folder = Path(tempfile.mkdtemp(prefix="carthage-benchmark-", dir="/var/tmp"))
    driver, images = host_store()
    lines = (
        "[storage]",
        f"driver = {json.dumps(driver)}",
        f"graphroot = {json.dumps(str(folder / 'store'))}",
        'runroot = "/run/podman-store"',
        "[storage.options]",
        f"additionalimagestores = {json.dumps([str(images)] if images else [])}",
    )
    (folder / "storage.conf").write_text("\n".join(lines) + "\n")
    networks = f'[network]\nnetwork_config_dir = "{folder / "networks"}"\n'
    (folder / "containers.conf").write_text(engine.configuration() + networks)
    try:
        yield {
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _control_group() -> Iterator[str]:
    name = f"/carthage-benchmark-{secrets.token_hex(3)}"
    try:
        yield name
    finally:
        cgroups.remove(name)


@contextmanager
def podman(*, network: bool = False) -> Iterator[Podman]:
    """Podman with the configuration that this project's provider gives it on this host.

    :param network: what it runs may have the host's network.
    """
    engine = host.find_engine()
    if engine is None:
        raise RuntimeError("no container runtime; see pytest-carthage doctor")
    hide = [f"umount {engine.hide}"] if engine.hide else []
    with (
        _configured(engine) as env,
        _control_group() as group,
        sealed(*hide, env=env, network=network) as inside,
    ):
        yield Podman(inside, group)
