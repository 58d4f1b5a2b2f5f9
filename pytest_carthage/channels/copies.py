"""Files of a machine that are carried: a client gets a copy, and gives it back."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from decimal import Decimal

from pytest_carthage.channels import scripts
from pytest_carthage.channels.lent import Lent, own_descriptor
from pytest_carthage.channels.questions import Questions
from pytest_carthage.fabric.wire.frames import Message
from pytest_carthage.fabric.wire.server import Connection, Handler, Reply

__all__ = ["Copies"]


class Copies:
    """Answers what is asked of files.

    What is opened to be written is a copy in memory: the reply has a number for ``commit``, which
    the client asks for when it has written.
    """

    def __init__(self, questions: Questions) -> None:
        self._questions = questions
        self._lent = Lent()

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """The operations that it answers."""
        order = self._questions.order
        return {
            "open": self._open,
            "commit": self._commit,
            "stat": self._stat,
            "listdir": self._listdir,
            "mkdirs": self._mkdirs,
            "symlink": lambda c, m, f: order(
                *(c, m, scripts.SYMLINK, m["path"], m["target"], m.get("user") or ""),
                scripts.time_of(m.get("mtime_ns")),
            ),
            "link": lambda c, m, f: order(c, m, scripts.LINK, m["path"], m["target"]),
            "settle": self._settle,
            "chmod": lambda c, m, f: order(c, m, scripts.CHMOD, m["path"], f"{m['mode']:o}"),
            "chown": lambda c, m, f: order(c, m, scripts.CHOWN, m["path"], m["user"]),
        }

    def _open(self, connection: Connection, message: Message, fds: list[int]) -> None:
        path, flags, mode = message["path"], message["flags"], message.get("mode")
        is_read = flags & os.O_ACCMODE == os.O_RDONLY

        def opened(status: int, out: bytes, err: bytes) -> Reply:
            if is_read and status and scripts.last_line(err) == "EISDIR":
                # what it is can be seen, and nothing of this host be listed
                return Reply((os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC),))
            scripts.check(status, err, path)
            copy = os.memfd_create("file", os.MFD_CLOEXEC)
            _fill(copy, out)
            own = own_descriptor(copy, flags)
            if is_read:
                os.close(copy)
                return Reply((own,))
            return Reply((own,), commit=self._lent.lend(copy, path, connection))

        if is_read:
            self._questions.ask(connection, message, opened, scripts.READ, path)
            return
        is_new = flags & os.O_EXCL and flags & os.O_CREAT
        self._questions.ask(
            connection,
            message,
            opened,
            scripts.TOUCH,
            path,
            "new" if is_new else "any" if flags & os.O_CREAT else "old",
            f"{mode:o}" if mode is not None and flags & os.O_CREAT else "",
            message.get("user") or "",
            "cut" if flags & os.O_TRUNC else "keep",
        )

    def _commit(self, connection: Connection, message: Message, fds: list[int]) -> Reply | None:
        """Give a copy back to the machine, or throw it away."""
        taken = self._lent.given_back(connection, message)
        if taken is None:
            return Reply()
        content, path = taken

        def done(status: int, out: bytes, err: bytes) -> Reply:
            scripts.check(status, err, path)
            return Reply()

        try:
            # who has gone wants a whole file, not half of one
            self._questions.ask(
                connection, message, done, scripts.WRITE, path, stdin=content, is_kept=True
            )
        finally:
            os.close(content)
        return None

    def _stat(self, connection: Connection, message: Message, fds: list[int]) -> None:
        def told(status: int, out: bytes, err: bytes) -> Reply:
            scripts.check(status, err, message["path"])
            try:
                mode, uid, gid, size, mtime = out.split()
                return Reply(
                    mode=int(mode, 16),
                    uid=int(uid),
                    gid=int(gid),
                    size=int(size),
                    mtime=float(mtime),
                    mtime_ns=int(Decimal(mtime.decode()) * 10**9),
                )
            except (ValueError, ArithmeticError):
                complaint = f"its stat(1) printed {out[:60]!r}, which is no status"
                raise OSError(errno.EIO, complaint, message["path"]) from None

        self._questions.ask(connection, message, told, scripts.STAT, message["path"])

    def _listdir(self, connection: Connection, message: Message, fds: list[int]) -> None:
        def told(status: int, out: bytes, err: bytes) -> Reply:
            scripts.check(status, err, message["path"])
            return Reply(names=sorted(os.fsdecode(name) for name in out.split(b"\0")[:-1]))

        self._questions.ask(connection, message, told, scripts.LIST, message["path"])

    def _mkdirs(self, connection: Connection, message: Message, fds: list[int]) -> None:
        mode = f"{message.get('mode') or 0o755:o}"
        user = message.get("user") or ""

        def done(status: int, out: bytes, err: bytes) -> Reply:
            scripts.check(status, err, message["path"])
            return Reply(made=bool(out))

        self._questions.ask(connection, message, done, scripts.MKDIRS, message["path"], mode, user)

    def _settle(self, connection: Connection, message: Message, fds: list[int]) -> None:
        words = [word for row in message.get("attributes", {}).items() for word in row]
        when = scripts.time_of(message.get("mtime_ns"))
        mode = f"{message['mode']:o}" if message.get("mode") is not None else ""
        self._questions.order(
            connection, message, scripts.SETTLE, message["path"], mode, when, *words
        )


def _fill(fd: int, data: bytes) -> None:
    view = memoryview(data)
    at = 0
    while at < len(view):
        at += os.pwrite(fd, view[at:], at)
