"""Files of a machine far away that are carried: a client gets a copy, and gives it back."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pytest_carthage.channels.far.carried import Content, Filled
from pytest_carthage.channels.far.link import FarError
from pytest_carthage.channels.lent import Lent, own_descriptor
from pytest_carthage.fabric.wire.frames import Message
from pytest_carthage.fabric.wire.server import Connection, Handler, Reply

if TYPE_CHECKING:
    from pytest_carthage.channels.far.deputy import FarDeputy

__all__ = ["FarFiles"]

#: what is longer is copied to a disk of this host rather than to its memory
_MOST_IN_MEMORY = 256 << 20


class FarFiles:
    """Answers what is asked of the content of files."""

    def __init__(self, deputy: FarDeputy) -> None:
        self._deputy = deputy
        self._link = deputy.link
        self._lent = Lent()

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """The operations that it answers."""
        return {"open": self._open, "commit": self._commit}

    def _open(self, connection: Connection, message: Message, fds: list[int]) -> None:
        flags: int = message["flags"]
        if flags & os.O_ACCMODE == os.O_RDONLY:
            self._read(connection, message, lambda copy: _given(copy, flags))
            return

        def touched(reply: Message) -> Reply | None:
            def filled(copy: int) -> Reply:
                number = self._lent.lend(os.dup(copy), message["path"], connection)
                return Reply(_given(copy, flags).fds, commit=number)

            if flags & os.O_TRUNC:
                return filled(os.memfd_create("file", os.MFD_CLOEXEC))
            self._read(connection, message, filled)
            return None

        fields: dict[str, Any] = {
            name: message.get(name) for name in ("path", "flags", "mode", "user")
        }
        self._deputy.ask(connection, message, "touch", touched, **fields)

    def _read(self, connection: Connection, message: Message, give: Callable[[int], Reply]) -> None:
        """Copy a file here; ``give`` makes a reply of its descriptor, which is its own then."""
        copy = os.memfd_create("file", os.MFD_CLOEXEC)
        stream = self._link.new_stream()

        def done(error: OSError | None) -> None:
            self._deputy.finished(connection, message)
            if error is not None:
                os.close(copy)
                connection.refuse(message["id"], OSError(error.errno, error.strerror, path))
                return
            connection.answer(message["id"], give(copy))

        def answered(reply: Message) -> None:
            filled.most = max(filled.most, int(reply["size"]))
            if int(reply["size"]) > _MOST_IN_MEMORY:
                with tempfile.TemporaryFile() as file:
                    os.dup2(file.fileno(), copy, inheritable=False)
            self._deputy.under_way(connection, message, take_back)

        def take_back() -> None:
            filled.give_up()
            os.close(copy)

        def refused(error: FarError) -> Reply:
            filled.give_up()
            os.close(copy)
            if error.errno == errno.EISDIR:
                # what it is can be seen, and nothing of this host be listed
                return Reply((os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC),))
            raise error

        path = message["path"]
        filled = Filled(self._link, stream, copy, done)
        number = self._deputy.ask(
            connection, message, "read", answered, refused=refused, path=path, streams=[stream]
        )
        self._deputy.under_way(connection, message, lambda: self._link.take_back(number), take_back)

    def _commit(self, connection: Connection, message: Message, fds: list[int]) -> Reply | None:
        """Give a copy back to the machine, or throw it away."""
        taken = self._lent.given_back(connection, message)
        if taken is None:
            return Reply()
        content, path = taken
        stream = self._link.new_stream()
        # who has gone wants a whole file, not half of one
        self._deputy.ask(
            connection,
            message,
            "write",
            lambda reply: Reply(),
            lambda: sent.close(),
            is_kept=True,
            path=path,
            size=os.fstat(content).st_size,
            streams=[stream],
        )
        sent = Content(self._link, self._deputy.server, stream, content)
        return None


def _given(copy: int, flags: int) -> Reply:
    """A descriptor of a copy, for a client."""
    try:
        return Reply((own_descriptor(copy, flags),))
    finally:
        os.close(copy)
