"""Commands that were started for somebody, until their status has been fetched."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from pytest_carthage.fabric import descent
from pytest_carthage.fabric.wire import frames
from pytest_carthage.fabric.wire.server import Connection, Reply

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping

    from pytest_carthage.fabric.wire.server import Handler

__all__ = ["Job", "Jobs"]


class Job:
    """One command that was started, until somebody fetched its status."""

    def __init__(self, pid: int, mark: int, owner: Connection, request: int) -> None:
        self.pid = pid
        #: of all that it starts
        self.mark = mark
        self.owner = owner
        #: the owner's request that started it
        self.request = request
        self.status: int | None = None
        #: why nobody knows how it ended; None: that is known, or it has not ended
        self.error: BaseException | None = None
        #: (connection, request) to answer when it ends
        self.waiting: list[tuple[Connection, int]] = []


class Jobs:
    """Answers ``wait``, ``kill`` and ``cancel`` of an endpoint; a job ends with all it started."""

    def __init__(self) -> None:
        self._jobs: dict[int, Job] = {}
        self._by_pid: dict[int, Job] = {}
        self._last = 0
        #: marks are large, so that who counts by them is not stopped, and not those of another
        self._first_mark = (1 << 62) + (int.from_bytes(os.urandom(4), "big") << 28)

    @property
    def next_mark(self) -> int:
        """What marks all that the next job starts, see :mod:`.descent`."""
        return self._first_mark + self._last + 1

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """The operations that it answers."""
        return {"wait": self._wait, "cancel": self._cancel, "kill": self._kill}

    def register(
        self, process: subprocess.Popen[bytes], connection: Connection, message: frames.Message
    ) -> int:
        """Take a process that was started for a request; returns the number of the job."""
        process.returncode = 0  # the endpoint's loop reaps: Popen must not
        return self.register_child(process.pid, connection, message)

    def register_child(self, pid: int, connection: Connection, message: frames.Message) -> int:
        """The same of a child that was forked."""
        mark = self.next_mark
        self._last += 1
        job = Job(pid, mark, connection, message["id"])
        self._jobs[self._last] = self._by_pid[pid] = job
        return self._last

    def ended(self, pid: int, status: int) -> bool:
        """Take in that a child has ended (wait status); returns whether it was a job."""
        job = self._by_pid.pop(pid, None)
        if job is None:
            return False
        job.status = os.waitstatus_to_exitcode(status)
        for connection, request in job.waiting:
            connection.answer(request, Reply(status=job.status))
        if job.waiting:
            self._forget(job)
        return True

    def lost(self, pid: int, error: BaseException) -> bool:
        """Take in that nobody will know how a job ends; returns whether it was one."""
        job = self._by_pid.pop(pid, None)
        if job is None:
            return False
        job.error, job.status = error, -signal.SIGKILL
        for connection, request in job.waiting:
            connection.refuse(request, error)
        if job.waiting:
            self._forget(job)
        return True

    def lose_all(self, error: BaseException) -> None:
        """Take in that nobody will know how any job ends that has not ended."""
        for pid in list(self._by_pid):
            self.lost(pid, error)

    def hang_up(self, connection: Connection) -> None:
        """A client is gone, and what it has begun ends."""
        for job in list(self._jobs.values()):
            job.waiting = [(c, r) for c, r in job.waiting if c is not connection]
            if job.owner is connection:
                if job.status is None:
                    self.end(job)
                self._forget(job)

    def _forget(self, job: Job) -> None:
        for number, other in list(self._jobs.items()):
            if other is job:
                del self._jobs[number]

    def _wait(
        self, connection: Connection, message: frames.Message, fds: list[int]
    ) -> Reply | None:
        try:
            job = self._jobs[message["job"]]
        except KeyError:
            raise LookupError(f"no job {message['job']}") from None
        if job.status is None:
            job.waiting.append((connection, message["id"]))
            return None
        self._forget(job)
        if job.error is not None:
            raise job.error
        return Reply(status=job.status)

    def _cancel(self, connection: Connection, message: frames.Message, fds: list[int]) -> None:
        """Nobody waits for a request any more: a command that it started, or waited for, ends."""
        request = (connection, message["request"])
        for job in list(self._jobs.values()):
            waited = request in job.waiting
            if waited:
                job.waiting.remove(request)
            if (job.owner, job.request) == request or (waited and not job.waiting):
                if job.status is None:
                    self.end(job)
                self._forget(job)

    def _kill(self, connection: Connection, message: frames.Message, fds: list[int]) -> Reply:
        job = self._jobs.get(message["job"])
        if job is not None and job.status is None:  # else its number is another's by now
            self.signal(job, message["signal"])
        return Reply()

    def end(self, job: Job) -> None:
        """End a command with all that it has started."""
        self.signal(job, signal.SIGKILL)
        descent.kill(job.pid, job.mark)

    def signal(self, job: Job, number: int) -> None:
        """Signal a job that was not reaped yet: until then, the number is its own."""
        try:
            os.killpg(job.pid, number)
        except ProcessLookupError:
            pass
