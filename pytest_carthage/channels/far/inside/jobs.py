"""Commands, until they have ended and what they printed is on its way."""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import resource
import signal
import struct
import termios
from typing import TYPE_CHECKING

from pytest_carthage.fabric.descent import kill, marked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from pytest_carthage.channels.far.inside.streams import Source, Streams

    Identity = tuple[int, int, Sequence[int]]

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: what Python ignores, and other programs do not expect to be ignored
_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ)
#: files that a command may have open, as after a login
_FILES = 1024


def account_of(user: str) -> Any:
    """A user, by name or number; see pwd.

    :raises LookupError: there is none.
    """
    try:
        return pwd.getpwnam(user)
    except KeyError:
        pass
    if user.isdigit():
        try:
            return pwd.getpwuid(int(user))
        except KeyError:
            return pwd.struct_passwd((user, "x", int(user), int(user), "", "/", "/bin/sh"))
    known = ", ".join(entry.pw_name for entry in pwd.getpwall()[:40])
    raise LookupError(f"no user {user!r} in this machine; there are: {known}")


def owner_of(user: str) -> tuple[int, int]:
    """The numbers of a user, and of the group that he is in."""
    account = account_of(user)
    return account.pw_uid, account.pw_gid


class FarJob:
    """One command."""

    def __init__(self, pid: int, mark: int, sources: Sequence[Source]) -> None:
        self.pid = pid
        self.mark = mark
        self.sources = sources
        self.is_over = False


class FarJobs:
    """All that run."""

    def __init__(self, streams: Streams, tell: Callable[[dict[str, Any]], None]) -> None:
        self._streams = streams
        self._tell = tell
        #: by the number of the request that began it
        self.jobs: dict[int, FarJob] = {}
        self._by_pid: dict[int, int] = {}
        self._mark = (1 << 62) + (int.from_bytes(os.urandom(4), "big") << 28)
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        self._most_files = most

    def run(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Start a command."""
        account = account_of(message["user"]) if message.get("user") else None
        if account is None:
            account = account_of(str(os.getuid()))
        home = account.pw_dir if os.path.isdir(account.pw_dir) else "/"
        env = {
            "PATH": _PATH,
            "HOME": account.pw_dir,
            "USER": account.pw_name,
            "LOGNAME": account.pw_name,
            "SHELL": account.pw_shell or "/bin/sh",
            "LANG": "C.UTF-8",
        }
        env.update(message["env"])
        cwd = message.get("cwd") or home
        if not os.path.isdir(cwd):
            raise ValueError(f"no folder {cwd!r} to run a command in")
        identity = None
        gid = account.pw_gid
        if message.get("group"):
            import grp

            group = message["group"]
            entry = grp.getgrgid(int(group)) if group.isdigit() else grp.getgrnam(group)
            gid = entry.gr_gid
        if (account.pw_uid, gid) != (os.getuid(), os.getgid()):
            groups = os.getgrouplist(account.pw_name, gid)
            identity = (account.pw_uid, gid, groups)
        if message.get("tty"):
            env.setdefault("TERM", "xterm-256color")
            return self._on_terminal(message, env, cwd, identity)
        ours, theirs, sources = [], [], []
        try:
            null = os.open("/dev/null", os.O_RDWR)
            theirs.append(null)
            ends = []
            for place, stream in enumerate(message["streams"]):
                if stream == 0:
                    ends.append(null)
                elif place and stream == message["streams"][1] and place == 2:
                    ends.append(ends[1])
                else:
                    reading, writing = os.pipe()
                    near, far = (writing, reading) if place == 0 else (reading, writing)
                    ours.append((place, stream, near))
                    theirs.append(far)
                    ends.append(far)
                    if place:
                        os.fchmod(far, 0o666)
            pid = self._spawn(message["argv"], env, cwd, identity, ends)
        except BaseException:
            for _, _, fd in ours:
                os.close(fd)
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        for place, stream, fd in ours:
            if place == 0:
                self._streams.sink(stream, fd)
            else:
                sources.append(self._streams.source(stream, fd))
        return self._begun(message["id"], pid, sources)

    def _on_terminal(
        self, message: Mapping[str, Any], env: dict[str, str], cwd: str, identity: Identity | None
    ) -> dict[str, Any]:
        master, slave = os.openpty()
        try:
            self._size(slave, message)
            if identity:
                os.fchown(slave, identity[0], -1)
            ends = [slave, slave, slave]
            pid = self._spawn(message["argv"], env, cwd, identity, ends, is_terminal=True)
            self._streams.sink(message["streams"][0], os.dup(master))
        except BaseException:
            os.close(master)
            raise
        finally:
            os.close(slave)
        source = self._streams.source(message["streams"][1], master)
        return self._begun(message["id"], pid, [source])

    def resize(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """A terminal has another size."""
        source = self._streams.sources.get(message["stream"])
        if source is not None:
            self._size(source.fd, message)
        return {}

    def _size(self, fd: int, message: Mapping[str, Any]) -> None:
        size = struct.pack("HHHH", message.get("rows", 24), message.get("cols", 80), 0, 0)
        fcntl.ioctl(fd, termios.TIOCSWINSZ, size)

    def _begun(self, number: int, pid: int, sources: Sequence[Source]) -> dict[str, Any]:
        self.jobs[number] = FarJob(pid, self._mark, sources)
        self._by_pid[pid] = number
        return {"pid": pid}

    def _spawn(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: str,
        identity: Identity | None,
        ends: Sequence[int],
        is_terminal: bool = False,
    ) -> int:
        programs = _programs(argv[0], env.get("PATH", _PATH))
        files = min(_FILES, self._most_files)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, self._most_files))
        self._mark += 1
        try:
            with marked(self._mark):
                if identity is None and not is_terminal and hasattr(os, "posix_spawn"):
                    try:
                        return _quick_spawn(programs, argv, env, cwd, ends)
                    except NotImplementedError:  # a C library without POSIX_SPAWN_SETSID
                        pass
                return _fork(programs, argv, env, cwd, identity, ends, is_terminal)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self._most_files, self._most_files))

    def kill(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Send a signal to a command and its group, unless it has ended: its number is free."""
        job = self.jobs.get(message["job"])
        if job is not None and not job.is_over:
            try:
                os.killpg(job.pid, message["signal"])
            except ProcessLookupError:
                pass
        return {}

    def end(self, number: int) -> None:
        """End a command with all that it has started."""
        job = self.jobs.pop(number, None)
        if job is None:
            return
        for source in job.sources:
            source.close()
        if not job.is_over:
            try:
                os.killpg(job.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            kill(job.pid, job.mark)

    def reap(self) -> None:
        """Take in which children have ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            number = self._by_pid.pop(pid, None)
            job = self.jobs.get(number) if number is not None else None
            if job is not None:
                self._over(number or 0, job, status)

    def _over(self, number: int, job: FarJob, status: int) -> None:
        """It has ended: that is told behind all that it has printed."""
        job.is_over = True
        left = [1 + len(job.sources)]

        def carried() -> None:
            left[0] -= 1
            if not left[0]:
                self.jobs.pop(number, None)
                self._tell({"ended": number, "status": status})

        for source in job.sources:
            source.when_carried(_printed(source.fd), carried)
        carried()


def _printed(fd: int) -> int:
    """How many bytes wait to be read."""
    if fd < 0:
        return 0
    try:
        return struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0]  # type: ignore[no-any-return]
    except OSError:
        return 0


def _programs(program: str, path: str) -> list[str]:
    if "/" in program:
        return [program]
    return [os.path.join(folder or ".", program) for folder in path.split(":")]


def _missing(number: int, program: str) -> OSError:
    return OSError(number, os.strerror(number), program)


def _quick_spawn(
    programs: Sequence[str],
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: str,
    ends: Sequence[int],
) -> int:
    """Start a program without a copy of this process, which takes several times as long."""
    actions = [(os.POSIX_SPAWN_DUP2, fd, place) for place, fd in enumerate(ends)]
    number = errno.ENOENT
    os.chdir(cwd)
    try:
        for program in programs:
            if len(programs) > 1 and not os.access(program, os.X_OK):
                continue
            try:
                return os.posix_spawn(
                    program, list(argv), env, file_actions=actions, setsid=True, setsigdef=_SIGNALS
                )
            except OSError as error:
                number = error.errno or number
                if number not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                    break
    finally:
        os.chdir("/")
    raise _missing(number, argv[0])


def _fork(
    programs: Sequence[str],
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: str,
    identity: Identity | None,
    ends: Sequence[int],
    is_terminal: bool,
) -> int:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become_program(programs, argv, env, cwd, identity, ends, is_terminal, writing)
    os.close(writing)
    try:
        said = os.read(reading, 16)
    finally:
        os.close(reading)
    if said:
        os.waitpid(pid, 0)
        raise _missing(int(said), argv[0])
    return pid


def _become_program(
    programs: Sequence[str],
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: str,
    identity: Identity | None,
    ends: Sequence[int],
    is_terminal: bool,
    failure: int,
) -> None:
    """Child: become the program, or say why not."""
    number = errno.ENOENT
    try:
        os.setsid()
        for place, fd in enumerate(ends):
            os.dup2(fd, place)
        if is_terminal:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        if identity is not None:
            os.setgroups(identity[2])
            os.setgid(identity[1])
            os.setuid(identity[0])
        os.chdir(cwd)
        for name in _SIGNALS:
            signal.signal(name, signal.SIG_DFL)
        for program in programs:
            try:
                os.execve(program, list(argv), env)
            except OSError as error:
                number = error.errno or number
                if number not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                    break
    except OSError as error:
        number = error.errno or errno.EIO
    finally:
        os.write(failure, str(number).encode())
        os._exit(127)
