"""The supervisor: one process per run that outlives its clients and cleans up after them.

It is lean (standard library only) and in a session of its own. It forks the fabrics; each
environment belongs to the connection that asked for it. When that connection closes, for
whatever reason, and the environment was not marked as kept, it is destroyed. When nothing is
left to look after, the run's folder is removed and the supervisor ends; what could not be
destroyed stays in the folder, with the journal that lists it.

===============  ==========================================  =================================
``hello``        token, pid                                  run: its identity
``environment``  name, description, unprivileged             folder, pid
``intent``       identity
``destroyed``    identity
``describe``     environment, description
``keep``         environment, for_s: number or null          it belongs to no connection
``deputy``       environment, argv, env, log; fd: control    pid
``destroy``      environment                                 failed: [[identity, error]]
``retry``                                                    failed: [[identity, error]]
``leave``                                                    none to the last one: it ends
``list``                                                     environments: [description]
===============  ==========================================  =================================
"""

from __future__ import annotations

import gc
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage import clock
from pytest_carthage.fabric import inheritance
from pytest_carthage.fabric import syscalls as sys_
from pytest_carthage.fabric.host import folders
from pytest_carthage.fabric.wire import frames
from pytest_carthage.fabric.wire.server import Connection, Reply, Server
from pytest_carthage.state import ending, errand, journal, places, possession
from pytest_carthage.state.cleaning import Cleaning, dead_runs
from pytest_carthage.state.environment import Environment
from pytest_carthage.state.starter import Starter
from pytest_carthage.state.sweeping import Failed, Sweep

if TYPE_CHECKING:
    from collections.abc import Sequence

#: a supervisor to whom nobody has ever come ends after this time
_LINGER_S = 5.0
#: when a run looks for what dead ones have left: not while its first environment begins
_COLLECT_AFTER_S = 0.3
#: how long the end of a run waits for that to be removed
_COLLECT_S = 1.0
_COLLECT_NICE = 10

#: is told what could not be destroyed
Then = Callable[[list[Failed]], None]


class Supervisor:
    """Serves the clients of one run."""

    def __init__(self, folder: Path, lock: int, starter: Starter) -> None:
        self._folder = folder
        self._starter = starter
        self._run = places.run_id(folder)
        self._lock = lock
        self._environments: dict[str, Environment] = {}
        self._journal = journal.Journal(folder / "journal.jsonl")
        self._clients = 0
        #: clients that are here, and what is to be done when they leave
        self._leaving: dict[Connection, Callable[[], None]] = {}
        #: what the clients of this run have in common, and the process that came first
        self._token: str | None = None
        self._first_pid = 0
        self._idle_since = clock.monotonic_s()
        #: whether it was told to end
        self._is_leaving = False
        #: since when what dead runs have left is being removed; None: it is not
        self._collecting_since: float | None = None
        #: those who wait for another try at what could not be destroyed
        self._retrying: list[Then] | None = None
        self.server = server = Server()
        server.tick_s = 1.0
        server.on_idle = self._tick
        server.on_child = self._child_ended
        server.handlers = {
            "hello": self._hello,
            "environment": self._environment,
            "intent": self._intent,
            "destroyed": self._destroyed,
            "describe": self._describe,
            "keep": self._keep,
            "deputy": self._deputy,
            "destroy": self._destroy,
            "retry": self._retry,
            "list": self._list,
            "leave": self._leave,
        }
        server.listen(frames.listen(str(folder / "supervisor.sock")))

    def serve(self) -> None:
        """Serve until there is nothing left to look after."""
        sys_.become_subreaper()
        self.server.run()
        if not self._outstanding() and (problem := ending.remove_run(self._folder)):
            print(problem, file=sys.stderr)

    def leave(self) -> None:
        """Destroy everything, kept or not, and end; safe in a signal handler."""
        self._is_leaving = True

    def _tick(self) -> None:
        now = clock.boottime_s()
        for environment in list(self._environments.values()):
            is_over = environment.expires_s is not None and now >= environment.expires_s
            if is_over or self._is_leaving:
                self._end(environment)
        if (
            self._environments
            or self._retrying is not None
            or (self._clients and not self._is_leaving)
        ):
            self._idle_since = clock.monotonic_s()
        elif (
            self._is_leaving
            or self._token is not None
            or clock.monotonic_s() - self._idle_since >= _LINGER_S
        ):
            self._stop()

    def _stop(self) -> None:
        """End, once the removal of what others have left is done, or has taken too long."""
        began = self._collecting_since
        if began is None or clock.monotonic_s() - began >= _COLLECT_S:
            self.server.stop()

    def _collect(self) -> None:
        """Have a child remove what dead runs of this user have left, while this one goes on."""
        runs = dead_runs(self._folder.parent)
        if not runs:
            return

        def work() -> None:
            os.nice(_COLLECT_NICE)
            for folder in runs:
                Cleaning(folder, self._starter.environment).run()

        def done(answer: object) -> None:
            self._collecting_since = None
            self._tick()

        self._collecting_since = clock.monotonic_s()
        errand.send(self.server, work, done, close=self._private_descriptors())

    def _outstanding(self) -> list[journal.Entry]:
        return journal.outstanding(journal.read(self._folder / "journal.jsonl"))

    def _private_descriptors(self) -> list[int]:
        """What a child must not hold open."""
        return [
            *self.server.own_descriptors(),
            *(e.lifeline for e in self._environments.values() if e.lifeline >= 0),
            self._journal.fileno(),
            self._lock,
        ]

    def _sweep(self, outside: Sequence[journal.Entry]) -> Sweep:
        log = self._folder / "supervisor.log"
        return Sweep(outside, log, environment=self._starter.environment)

    # clients

    def _hello(self, connection: Connection, message: frames.Message, fds: list[int]) -> Reply:
        token = message["token"]
        if self._token is None:
            self._token, self._first_pid = token, message["pid"]
            self.server.later(_COLLECT_AFTER_S, self._collect)
        elif token != self._token:
            name = message["name"]
            kept = ", ".join(sorted(self._environments)) or "none"
            raise ValueError(
                f"the name {name!r} is in use by a run of process {self._first_pid} "
                f"(its environments: {kept}); choose another --carthage-name, "
                f"or end that run: pytest-carthage rm {name}"
            )
        self._clients += 1

        def gone() -> None:
            self._clients -= 1
            del self._leaving[connection]
            for environment in list(self._environments.values()):
                if environment.owner is connection:
                    environment.owner = None
                    if not environment.kept:
                        self._end(environment)
            self._tick()

        self._leaving[connection] = gone
        connection.on_close.append(gone)
        return Reply(run=self._run)

    def _leave(
        self, connection: Connection, message: frames.Message, fds: list[int]
    ) -> Reply | None:
        """A client is gone, and stays to see the end of this process if it was the last one."""
        if (gone := self._leaving.get(connection)) is None:
            raise LookupError("it has never come")
        connection.on_close.remove(gone)
        gone()
        is_last = not self._clients and all(
            environment.ending is not None for environment in self._environments.values()
        )
        return None if is_last else Reply()

    def _environment(
        self, connection: Connection, message: frames.Message, fds: list[int]
    ) -> Reply:
        name = message["name"]
        if not folders.is_name(name):
            raise ValueError(f"an environment cannot be called {name!r:.80}")
        folder = self._folder / "envs" / name
        if self._is_leaving:
            raise ValueError("this run is ending")
        if name in self._environments:
            raise ValueError(f"there is an environment {name!r} already")
        if any(identity["environment"] == name for identity in self._outstanding()):
            raise ValueError(
                f"an earlier environment {name!r} of this run could not be destroyed; see: "
                "pytest-carthage ls; try: pytest-carthage gc"
            )
        environment = self._environments[name] = Environment(name, folder, connection)
        try:
            self._journal.write("intent", journal.fabric(self._run, name))
            (folder / "logs").mkdir(mode=0o700, parents=True)
            environment.describe(
                {**message["description"], "name": name, "created_at": clock.unix_s()}
            )
            environment.start(
                unprivileged=message["unprivileged"],
                close=[*self._private_descriptors(), self._starter.descriptor],
            )
        except BaseException:
            self._end(environment)
            raise
        return Reply(folder=str(folder), pid=environment.pid)

    def _find(self, name: str) -> Environment:
        environment = self._environments.get(name)
        if environment is None:
            names = ", ".join(self._environments) or "none"
            raise LookupError(f"no environment {name!r}; there are: {names}")
        if environment.ending is not None:
            raise LookupError(f"environment {name!r} is being destroyed")
        return environment

    def _intent(self, connection: Connection, message: frames.Message, fds: list[int]) -> Reply:
        journal.check(message["identity"])
        # also if it comes too late, since the thing may exist by now
        self._journal.write("intent", message["identity"])
        self._find(message["identity"]["environment"])
        return Reply()

    def _destroyed(self, connection: Connection, message: frames.Message, fds: list[int]) -> Reply:
        journal.check(message["identity"])
        self._journal.write("destroyed", message["identity"])
        return Reply()

    def _describe(self, connection: Connection, message: frames.Message, fds: list[int]) -> Reply:
        self._find(message["environment"]).describe(message["description"])
        return Reply()

    def _keep(self, connection: Connection, message: frames.Message, fds: list[int]) -> Reply:
        for_s = message["for_s"]
        if for_s is not None and (type(for_s) not in (int, float) or not 0 <= for_s < math.inf):
            raise ValueError(f"an environment cannot be kept for {for_s!r} s")
        self._find(message["environment"]).keep(for_s=for_s)
        return Reply()

    def _list(self, connection: Connection, message: frames.Message, fds: list[int]) -> Reply:
        return Reply(
            environments=[
                {
                    **environment.description,
                    "expires_at": environment.expires_at,
                    "folder": str(environment.folder),
                    "owned": environment.owner is not None,
                    "pid": environment.pid,
                }
                for environment in self._environments.values()
                if environment.ending is None and environment.pid > 0
            ]
        )

    def _deputy(self, connection: Connection, message: frames.Message, fds: list[int]) -> Reply:
        """Start a process that answers for a machine, out here; it ends with the fabric."""
        environment = self._find(message["environment"])
        pid = environment.start_deputy(
            message["argv"], env=message["env"], control=fds[0], log=message["log"]
        )
        return Reply(pid=pid)

    def _child_ended(self, pid: int, status: int) -> None:
        for environment in list(self._environments.values()):
            was_fabric = pid == environment.pid
            if (message := environment.child_ended(pid, status)) is not None:
                at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(clock.unix_s()))
                print(f"{at} UTC {message}", file=sys.stderr, flush=True)
            if was_fabric and environment.owner is None:  # else that ends it
                self._end(environment)

    # the end of an environment

    def _destroy(
        self, connection: Connection, message: frames.Message, fds: list[int]
    ) -> Reply | None:
        environment = self._environments.get(message["environment"])
        if environment is None:
            return Reply(failed=[])
        self._end(
            environment,
            lambda failed: connection.answer(message["id"], Reply(failed=failed)),
        )
        return None

    def _end(self, environment: Environment, then: Then | None = None) -> None:
        """Destroy an environment: the fabric first, which takes all that is in it along."""
        is_new = environment.ending is None
        environment.ending = environment.ending or []
        if then is not None:
            environment.ending.append(then)
        if not is_new:
            return
        processes = environment.kill()
        entries = journal.read(self._folder / "journal.jsonl")
        identities = journal.outstanding(entries, environment.name)
        outside = [identity for identity in identities if identity["outside"]]

        def work() -> list[Failed]:
            problem = ending.await_end(processes)
            sweep = self._sweep(outside)
            failed = ending.clean(self._run, self._folder, sweep, [environment.name])
            if problem:
                failed.append(Failed(journal.fabric(self._run, environment.name), problem))
            return failed

        def done(failed: list[Failed]) -> None:
            waiting, environment.ending = environment.ending or [], []
            del self._environments[environment.name]
            for call in waiting:
                call(failed)

        self._send(work, identities, done)

    def _retry(
        self, connection: Connection, message: frames.Message, fds: list[int]
    ) -> Reply | None:
        """Try again to destroy what is left of environments that have ended."""

        def answer(failed: list[Failed]) -> None:
            connection.answer(message["id"], Reply(failed=failed))

        if self._retrying is not None:
            self._retrying.append(answer)
            return None
        self._retrying = [answer]
        left = [i for i in self._outstanding() if i["environment"] not in self._environments]
        outside = [identity for identity in left if identity["outside"]]

        def work() -> list[Failed]:
            sweep = self._sweep(outside)
            names = dict.fromkeys(identity["environment"] for identity in left)
            return ending.clean(self._run, self._folder, sweep, names)

        def done(failed: list[Failed]) -> None:
            waiting, self._retrying = self._retrying or [], None
            for call in waiting:
                call(failed)

        self._send(work, left, done)
        return None

    def _send(
        self,
        work: Callable[[], list[Failed]],
        identities: Sequence[journal.Entry],
        done: Then,
        *,
        again: bool = False,
    ) -> None:
        """Have a child destroy things; then the journal is told, and ``done``."""

        def told(answer: Any) -> None:
            if answer is None and not again:
                self._send(work, identities, done, again=True)  # somebody has killed the child
                return
            if answer is None:
                lost = "who should destroy it ended before; see supervisor.log"
                answer = [(identity, lost) for identity in identities]
            failed = [Failed(identity, error) for identity, error in answer]
            self._write_outcome(identities, failed)
            done(failed)
            self._tick()

        try:
            errand.send(self.server, work, told, close=self._private_descriptors())
        except OSError:  # no child now: then everybody waits
            told(work())

    def _write_outcome(self, identities: Sequence[journal.Entry], failed: list[Failed]) -> None:
        left = {journal.thing(identity) for identity, _ in failed}
        try:
            for identity in identities:
                if journal.thing(identity) not in left:
                    self._journal.write("destroyed", identity)
            for identity, error in failed:
                self._journal.write("failed", identity, error=error, at=clock.unix_s())
        except OSError:  # what is not told as destroyed is destroyed again
            traceback.print_exc()


def main(run_folder: str, ready: int, gate: int, bequest: int) -> None:
    """Entry: make the run's folder, tell the starter that we are ready; serve.

    :param ready: pipe to the starter, which may be gone by now.
    :param gate: holds what keeps others from making a run, or from taking this for a dead one.
    :param bequest: see :mod:`.starter`.
    """
    folder = Path(run_folder)
    # first: of all that the run starts, this is what it is like
    kept = inheritance.put_off()
    sys_.set_process_name("carthage-super")
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    folder.mkdir(mode=0o700)
    try:
        lock = possession.take(folder)
        (folder / "id").write_text(os.urandom(6).hex())
        supervisor = Supervisor(folder, lock, Starter(bequest))
        signal.signal(signal.SIGTERM, lambda number, frame: supervisor.leave())
        _log_to(folder / "supervisor.log")
        if kept:
            print(f"kept of who started it: {', '.join(kept)}", file=sys.stderr, flush=True)
        os.write(ready, b"ready")
    except BaseException:  # BrokenPipeError: who wanted it was killed
        ending.remove_run(folder)
        raise
    os.close(ready)
    os.close(gate)
    gc.freeze()
    supervisor.serve()


def _log_to(path: Path) -> None:
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    for number in (1, 2):
        os.dup2(log, number)
    os.close(log)
