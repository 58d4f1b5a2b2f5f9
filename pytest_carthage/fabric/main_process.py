"""The main process of a machine without an init: started, started again, and asked to end."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from pytest_carthage import clock
from pytest_carthage.fabric import accounts, inheritance
from pytest_carthage.fabric.restarting import Restarting

if TYPE_CHECKING:
    from pytest_carthage.fabric.agent import Agent
    from pytest_carthage.fabric.spec import MachineSpec
    from pytest_carthage.fabric.wire import frames
    from pytest_carthage.fabric.wire.control import Control

#: a main process that fails within this time is told as a failed creation
_AT_ONCE_S = 0.02
#: the status of what cannot be started, as sh(1p) has it
_NOT_STARTED = 127


class MainProcess:
    """The main process of the machine whose first process we are.

    When that has been asked to end, the machine ends with it; the kernel ends the rest.
    """

    def __init__(self, spec: MachineSpec, control: Control, log: int, agent: Agent) -> None:
        """:param log: what it prints to."""
        self._spec = spec
        self._control = control
        self._log = log
        self._server = agent.server
        self._admission = agent.admission
        self._restarting = Restarting(spec["restart"])
        #: its process id, while it runs
        self._pid: int | None = None
        self._began = 0.0
        self._is_ending = False

    def start(self) -> None:
        """Start it, if the machine has one.

        :raises OSError: it cannot be started; or it ended at once with a status other than 0, and
            is not one that is started again.
        :raises LookupError: the machine has no such user.
        """
        if not self._spec["command"]:
            return
        self._launch()
        if not self._restarting.is_on:
            self._refuse_what_ended()

    def _launch(self) -> None:
        root = self._spec.get("root")
        user, _, group = root["user"].partition(":") if root is not None else ("", "", "")
        account = accounts.find(user, group or None) if user else None
        env = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": account.home if account is not None else "/root",
            "LANG": "C.UTF-8",
            **self._spec["env"],
        }
        identity: dict[str, Any] = {}
        if account is not None and account.uid:
            identity = {
                "user": account.uid,
                "group": account.gid,
                "extra_groups": list(account.groups),
            }
        folder = (root["workdir"] if root is not None else "") or "/"
        os.makedirs(folder, exist_ok=True)  # an image may name one that it does not have
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        try:
            with inheritance.few_files():
                process = subprocess.Popen(
                    self._spec["command"] or (),
                    stdin=null,
                    stdout=self._log,
                    stderr=self._log,
                    env=env,
                    cwd=folder,
                    start_new_session=True,
                    preexec_fn=self._admission.before_exec,
                    **identity,
                )
        finally:
            os.close(null)
        process.returncode = 0  # reaped by the agent's loop
        self._pid, self._began = process.pid, clock.monotonic_s()

    def _refuse_what_ended(self) -> None:
        """Refuse a main process that fails at once: nobody meant that."""
        assert self._pid is not None
        fd = os.pidfd_open(self._pid)
        try:
            if select.select([fd], [], [], _AT_ONCE_S)[0]:
                info = os.waitid(os.P_PIDFD, fd, os.WEXITED | os.WNOWAIT)
                if info is not None and info.si_status:
                    raise OSError(f"its main process ended at once with status {info.si_status}")
        finally:
            os.close(fd)

    def child_ended(self, pid: int, status: int) -> None:
        """A child that is no command has ended."""
        if pid == self._pid:
            self._pid = None
            if self._is_ending:
                os._exit(0)
            self._take_in_end(os.waitstatus_to_exitcode(status), clock.monotonic_s() - self._began)

    def _take_in_end(self, status: int, lived_s: float) -> None:
        again_s = self._restarting.after(status, lived_s)
        sequel = "" if again_s is None else f", and is started again in {again_s:g} s"
        print(f"main process ended with status {status}{sequel}", file=sys.stderr, flush=True)
        if again_s is not None:
            self._server.later(again_s, self._start_again)
        self._tell("main", status=status, again_s=again_s)

    def _start_again(self) -> None:
        self._restarting.count += 1
        try:
            self._launch()
        except (OSError, LookupError) as error:
            print(f"main process cannot be started: {error}", file=sys.stderr, flush=True)
            self._take_in_end(_NOT_STARTED, 0.0)
        else:
            self._tell("again", restarts=self._restarting.count)

    def _tell(self, step: str, **fields: Any) -> None:
        try:
            self._control.send({"step": step, "at_s": clock.unix_s(), **fields})
        except OSError as error:
            print(f"the fabric is not told of the main process: {error}", file=sys.stderr)

    def told(self, message: frames.Message) -> None:
        """The fabric wants something: that the main process be asked to end."""
        if message.get("op") != "terminate":
            return
        if self._pid is None:  # also one that was to be started again
            os._exit(0)
        root = self._spec.get("root")
        self._is_ending = True
        signal.signal(signal.SIGALRM, lambda number, frame: os._exit(0))
        signal.setitimer(signal.ITIMER_REAL, max(0.001, message["timeout_s"]))
        os.kill(self._pid, signal.SIGTERM if root is None else root["stop_signal"])
