"""An environment as its supervisor has it: the processes that it consists of, and what is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any

from pytest_carthage import clock
from pytest_carthage.fabric import syscalls as sys_
from pytest_carthage.fabric.host import folders
from pytest_carthage.state.fabrics import fork_fabric

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from pytest_carthage.fabric.wire.server import Connection
    from pytest_carthage.state.sweeping import Failed

__all__ = ["Environment"]


class Environment:
    """One that was asked for by a connection, its owner."""

    def __init__(self, name: str, folder: Path, owner: Connection | None) -> None:
        self.name = name
        self.folder = folder
        self.owner = owner
        #: process of the fabric; -1: it does not live
        self.pid = -1
        #: write end of the fabric's lifeline; -1: closed
        self.lifeline = -1
        #: processes outside of the fabric that answer for machines
        self.deputies: list[int] = []
        self.description: dict[str, Any] = {}
        self.kept = False
        #: when a kept environment is destroyed, by :func:`.clock.boottime_s`, which nobody sets
        self.expires_s: float | None = None
        #: those who wait to be told what could not be destroyed, once its end has begun
        self.ending: list[Callable[[list[Failed]], None]] | None = None

    def describe(self, description: Mapping[str, Any]) -> None:
        """Add to what is known of it, also for those who read it from disk.

        :raises OSError: it cannot be written; nothing is added.
        """
        described = {**self.description, **description}
        path = self.folder / "environment.json"
        path.with_suffix(".new").write_text(json.dumps(described, indent=1))
        path.with_suffix(".new").replace(path)
        self.description = described

    def keep(self, *, for_s: float | None) -> None:
        """Have it stay when its owner is gone; for ever where ``for_s`` is None.

        :raises OSError: that cannot be written; it is not kept.
        """
        expires_at = None if for_s is None else clock.unix_s() + for_s
        self.describe({"kept": True, "expires_at": expires_at})
        self.expires_s = None if for_s is None else clock.boottime_s() + for_s
        self.kept, self.owner = True, None

    @property
    def expires_at(self) -> float | None:
        """UNIX time at which it is destroyed, by the clock as it is set now; None: never."""
        if self.expires_s is None:
            return None
        return clock.unix_s() + self.expires_s - clock.boottime_s()

    def start(self, *, unprivileged: bool, close: Collection[int]) -> None:
        """Make its fabric.

        :param close: descriptors of this process that a child must not hold open.
        :raises OSError: the kernel refused, with its number.
        """
        lifeline, self.lifeline = os.pipe2(os.O_CLOEXEC)
        try:
            self.pid = fork_fabric(
                self.folder,
                lifeline,
                unprivileged=unprivileged,
                close=[*close, self.lifeline],
                # all runs: who reaches their sockets ends them, or starts programs of the host
                hidden=self.folder.parents[2],
            )
        finally:
            os.close(lifeline)

    def start_deputy(
        self, argv: Sequence[str], *, env: Mapping[str, str], control: int, log: str
    ) -> int:
        """Start a process that answers for a machine, out here; returns its id.

        :param control: descriptor of the way on which it is asked.
        :param log: path of a file in a folder of the environment's.
        :raises OSError: it cannot be started.
        :raises ValueError: the log would be elsewhere.
        """
        folder, name = os.path.split(log)
        above, own = os.path.split(folder)
        if above != str(self.folder) or not (folders.is_name(own) and folders.is_name(name)):
            raise ValueError(f"{log!r:.200} is no log of environment {self.name!r}")
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**env, "CARTHAGE_CONTROL": str(control)},
                cwd="/",
                pass_fds=(control,),
                start_new_session=True,
                # one that does not notice the fabric's end would outlive us
                preexec_fn=lambda: sys_.die_with_parent(signal.SIGKILL),
            )
        finally:
            os.close(output)
        process.returncode = 0  # reaped by this process's loop
        self.deputies.append(process.pid)
        return process.pid

    def child_ended(self, pid: int, status: int) -> str | None:
        """A child of this process has ended, which may have been one of these.

        Returns what is to be told of it, where nobody had asked for its end.
        """
        if pid == self.pid:
            self.pid = -1  # and with it nothing of it lives
            process = "the fabric"
        elif pid in self.deputies:
            self.deputies.remove(pid)
            process = "a deputy"
        else:
            return None
        if self.ending is not None:
            return None
        code = os.waitstatus_to_exitcode(status)
        end = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        return f"{process} of {self.name!r} (process {pid}) {end}, which nobody had asked for"

    def kill(self) -> list[int]:
        """End its processes, and with the fabric all that is in it; returns those to wait for."""
        if self.lifeline >= 0:
            os.close(self.lifeline)
            self.lifeline = -1
        # as long as they are not reaped, these are no other's numbers
        processes = [pid for pid in (self.pid, *self.deputies) if pid > 0]
        for pid in processes:
            os.kill(pid, signal.SIGKILL)
        return processes
