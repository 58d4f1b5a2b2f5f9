"""The supervisor: one process per run that outlives its clients and cleans up after them.

It is lean (standard library only) and in a session of its own. It forks the fabrics; each
environment belongs to the connection that asked for it. When that connection closes, for
whatever reason, and the environment was not marked as kept, it is destroyed. When nothing is
left to look after, the run's folder is removed and the supervisor ends.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.fabric import init, limits, wire
from pytest_carthage.fabric import syscalls as sys_
from pytest_carthage.fabric.server import Connection, Reply, Server
from pytest_carthage.state import cgroups, journal

if TYPE_CHECKING:
    import socket

#: kinds whose resources end with the fabric: nothing but the environment remains of them
IN_FABRIC = frozenset({"netns", "podman"})
#: a supervisor to whom nobody has ever come ends after this time
_LINGER_S = 5.0


class _Environment:
    def __init__(self, name: str, folder: Path, owner: Connection | None) -> None:
        self.name = name
        self.folder = folder
        self.owner = owner
        self.pid = -1
        #: write end of the fabric's lifeline
        self.lifeline = -1
        self.kept = False
        #: UNIX time at which a kept environment is destroyed
        self.expires_at: float | None = None
        #: programs that clean up what the fabric's end does not remove
        self.sweepers: list[subprocess.Popen[bytes]] = []


class Supervisor:
    """Serves the clients of one run."""

    def __init__(self, folder: Path, lock: int) -> None:
        self._folder = folder
        self._lock = lock
        self._environments: dict[str, _Environment] = {}
        self._journal = journal.Journal(folder / "journal.jsonl")
        self._listener = wire.listen(str(folder / "supervisor.sock"))
        self._clients = 0
        #: what the clients of this run have in common, and the process that came first
        self._token: str | None = None
        self._first_pid = 0
        self._idle_since = time.monotonic()
        self._ended: set[int] = set()
        self.server = server = Server()
        server.tick_s = 1.0
        server.on_idle = self._tick
        server.on_child = lambda pid, status: self._ended.add(pid)
        server.handlers = {
            "hello": self._hello,
            "environment": self._environment,
            "intent": self._intent,
            "destroyed": self._destroyed,
            "describe": self._describe,
            "keep": self._keep,
            "destroy": self._destroy,
            "list": self._list,
            "release": self._release,
        }
        server.listen(self._listener)

    def serve(self) -> None:
        """Serve until there is nothing left to look after."""
        sys_.become_subreaper()
        self.server.run()
        for environment in list(self._environments.values()):  # told to end: SIGTERM
            self._end(environment)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _tick(self) -> None:
        now = time.time()
        for environment in list(self._environments.values()):
            if environment.expires_at is not None and now >= environment.expires_at:
                self._end(environment)
        self._ended.clear()
        if self._clients or self._environments:
            self._idle_since = time.monotonic()
        elif self._token is not None or time.monotonic() - self._idle_since >= _LINGER_S:
            self.server.running = False

    # clients

    def _hello(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        token = message["token"]
        if self._token is None:
            self._token, self._first_pid = token, message["pid"]
        elif token != self._token:
            name = self._folder.name
            kept = ", ".join(sorted(self._environments)) or "none"
            raise ValueError(
                f"the name {name!r} is in use by a run of process {self._first_pid} "
                f"(its environments: {kept}); choose another --carthage-name, "
                f"or end that run: pytest-carthage rm {name}"
            )
        self._clients += 1

        def gone() -> None:
            self._clients -= 1
            for environment in list(self._environments.values()):
                if environment.owner is connection:
                    environment.owner = None
                    if not environment.kept:
                        self._end(environment)
            if not self._clients and not self._environments:
                self.server.running = False

        connection.on_close.append(gone)
        return Reply(pid=os.getpid())

    def _environment(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        name = message["name"]
        folder = self._folder / "envs" / name
        if name in self._environments:
            raise ValueError(f"there is an environment {name!r} already")
        self._journal.write(
            {
                "op": "intent",
                "identity": {
                    "kind": "fabric",
                    "run": self._folder.name,
                    "environment": name,
                    "name": name,
                    "detail": [],
                },
            }
        )
        (folder / "logs").mkdir(mode=0o700, parents=True)
        environment = self._environments[name] = _Environment(name, folder, connection)
        description = {**message["description"], "name": name, "created_at": time.time()}
        self._write_description(environment, description)
        try:
            self._fork_fabric(environment, unprivileged=message["unprivileged"])
        except BaseException:
            self._end(environment)
            raise
        return Reply(folder=str(folder), pid=environment.pid)

    def _fork_fabric(self, environment: _Environment, *, unprivileged: bool) -> None:
        listener = wire.listen(str(environment.folder / "fabric.sock"))
        lifeline_read, lifeline_write = os.pipe2(os.O_CLOEXEC)
        told_read, told_write = os.pipe2(os.O_CLOEXEC)
        environment.lifeline = lifeline_write
        log = os.open(
            environment.folder / "fabric.log",
            os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC,
            0o600,
        )
        close = [
            *self.server.own_descriptors(),
            *(e.lifeline for e in self._environments.values() if e.lifeline >= 0),
            self._journal.fileno(),
            self._lock,
            told_read,
        ]
        child = os.fork()
        if child == 0:
            self._become_fabric(
                listener, lifeline_read, told_write, log, close, unprivileged=unprivileged
            )
        listener.close()
        for fd in (lifeline_read, told_write, log):
            os.close(fd)
        with os.fdopen(told_read, "rb") as told:
            answer = told.read()
        if not answer.startswith(b"pid "):
            raise _as_told(answer.decode(errors="replace"))
        environment.pid = int(answer[4:])

    def _become_fabric(
        self,
        listener: socket.socket,
        lifeline: int,
        told: int,
        log: int,
        close: list[int],
        *,
        unprivileged: bool,
    ) -> None:
        """Child: make the namespaces, fork the fabric's PID 1 into them, and end."""
        try:
            signal.set_wakeup_fd(-1)
            for fd in close:
                try:
                    os.close(fd)
                except OSError:
                    pass
            os.setsid()
            init.leave_host(unprivileged=unprivileged)
            reading, writing = os.pipe2(os.O_CLOEXEC)
            pid = os.fork()
            if pid == 0:
                os.close(reading)
                try:
                    for number in (1, 2):
                        os.dup2(log, number)
                    os.chdir("/")
                    sys_.set_process_name("carthage-fabric")
                    init.furnish()
                    gc.freeze()
                    fabric = init.Fabric(listener, lifeline, unprivileged=unprivileged)
                    os.write(writing, b"ready")
                    os.close(writing)
                    os.close(told)
                    fabric.server.run()
                except BaseException as error:
                    traceback.print_exc()
                    sys.stderr.flush()
                    os.write(writing, _to_tell(error))
                os._exit(1)
            os.close(writing)
            answer = os.read(reading, 4096)
            os.write(told, f"pid {pid}".encode() if answer == b"ready" else answer)
        except BaseException as error:
            os.write(told, _to_tell(error))
        os._exit(0)

    def _find(self, message: wire.Message) -> _Environment:
        try:
            return self._environments[message["environment"]]
        except KeyError:
            known = ", ".join(self._environments) or "none"
            raise LookupError(
                f"no environment {message['environment']!r}; there are: {known}"
            ) from None

    def _intent(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        self._journal.write({"op": "intent", "identity": message["identity"]})
        return Reply()

    def _destroyed(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        self._journal.write({"op": "destroyed", "identity": message["identity"]})
        return Reply()

    def _write_description(self, environment: _Environment, description: dict[str, Any]) -> None:
        path = environment.folder / "environment.json"
        path.with_suffix(".new").write_text(json.dumps(description, indent=1))
        path.with_suffix(".new").replace(path)

    def _read_description(self, environment: _Environment) -> dict[str, Any]:
        text = (environment.folder / "environment.json").read_text()
        description: dict[str, Any] = json.loads(text)
        return description

    def _describe(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        environment = self._find(message)
        description = self._read_description(environment) | message["description"]
        self._write_description(environment, description)
        return Reply()

    def _keep(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        environment = self._find(message)
        environment.kept = True
        environment.expires_at = message.get("expires_at")
        description = self._read_description(environment)
        self._write_description(
            environment,
            description | {"kept": True, "expires_at": environment.expires_at},
        )
        return Reply()

    def _release(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        """The environment no longer belongs to a connection (it was kept)."""
        self._find(message).owner = None
        return Reply()

    def _destroy(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        environment = self._environments.get(message["environment"])
        if environment is not None:
            self._end(environment)
        return Reply()

    def _list(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        return Reply(
            environments=[
                {
                    **self._read_description(environment),
                    "owned": environment.owner is not None,
                    "pid": environment.pid,
                }
                for environment in self._environments.values()
            ]
        )

    # the end of an environment

    def _end(self, environment: _Environment) -> None:
        """Destroy an environment: the fabric first, which takes all that is in it along."""
        self._environments.pop(environment.name, None)
        if environment.lifeline >= 0:
            os.close(environment.lifeline)
            environment.lifeline = -1
        if environment.pid > 0:
            _end_process(environment.pid)
        entries = journal.read(self._folder / "journal.jsonl")
        foreign = [
            identity
            for identity in journal.outstanding(entries, environment.name)
            if identity["kind"] not in IN_FABRIC and identity["kind"] != "fabric"
        ]
        if foreign:
            sweep(foreign, self._folder / "supervisor.log")
        remove_remains(environment.name, environment.folder)
        for identity in journal.outstanding(entries, environment.name):
            self._journal.write({"op": "destroyed", "identity": identity})


def _to_tell(error: BaseException) -> bytes:
    """An error as a child tells it through a pipe: number, and text."""
    return f"{getattr(error, 'errno', None) or 0} {error}".encode()


def _as_told(text: str) -> OSError:
    number, _, words = text.partition(" ")
    error = OSError(words or "the fabric ended at once")
    error.errno = int(number) if number.isdecimal() and number != "0" else None
    return error


def remove_remains(name: str, folder: Path) -> None:
    """Remove what the end of a fabric leaves: control groups and the environment's folder."""
    cgroups.remove(limits.control_group(name))
    shutil.rmtree(folder, ignore_errors=True)


def sweep(identities: list[dict[str, Any]], log: Path) -> None:
    """Have providers destroy what does not end with a fabric, in a process that can load them."""
    with open(log, "ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest_carthage.state.sweep"],
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=file,
            env={**os.environ, "PYTHONPATH": os.environ.get("CARTHAGE_PATH", "")},
        )
        try:
            process.communicate(json.dumps(identities).encode(), timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
        except ChildProcessError:
            pass  # reaped by the loop's own wait


def _end_process(pid: int) -> None:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        select.select([fd], [], [], 10.0)
    except ProcessLookupError:
        pass
    finally:
        os.close(fd)


def main(run_folder: str, ready: int) -> None:
    """Entry: take the run's lock, tell the starter that this process is ready, serve."""
    folder = Path(run_folder)
    sys_.set_process_name("carthage-super")
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    supervisor = Supervisor(folder, lock)
    signal.signal(signal.SIGTERM, lambda number, frame: supervisor.server.stop())
    os.write(ready, b"ready")
    os.close(ready)
    gc.freeze()
    supervisor.serve()
