"""User namespaces of machines: whose ids stand for whose, see user_namespaces(7)."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

from pytest_carthage.fabric import birth, devconf
from pytest_carthage.fabric import syscalls as sys_
from pytest_carthage.fabric.namespaces import become_root


@dataclass(frozen=True, slots=True)
class Domain:
    """A user namespace and the network namespace that belongs to it: descriptors, to be closed."""

    users: int
    network: int

    def close(self) -> None:
        """Let go of them; each ends with its last user."""
        os.close(self.users)
        os.close(self.network)


def new_domain(first: int, count: int) -> Domain:
    """Make a user namespace in which 0 stands for ``first`` here, and so on, with a network.

    A row in the map may not reach over two of the namespace around it.

    What the kernel counts by users in a namespace it also counts by who owns that, in the one
    around it (inotify instances, for one: 128 on most hosts). So each is owned by a user of its
    own, of those whom the machines have anyway: what one takes, another does not lack. An ordinary
    user's are all counted as that user's in the end.

    The network belongs to it, so that its root may change the network's settings: that is why it
    is made inside.

    :raises OSError: the kernel refused.
    """
    told, tell = os.pipe2(os.O_CLOEXEC)
    heard, hear = os.pipe2(os.O_CLOEXEC)

    def body() -> None:
        try:
            if first != 0:
                owner = first + 1 + int.from_bytes(os.urandom(4), "big") % (count - 1)
                with contextlib.suppress(OSError):  # else hosts that let users have none refuse it
                    sys_.keep_capabilities()
                os.setresuid(-1, owner, -1)
            sys_.unshare(sys_.CLONE_NEWUSER)
            os.write(tell, b"users")
            if os.read(heard, 1):
                become_root()
                sys_.unshare(sys_.CLONE_NEWNET)
                devconf.reset()
                os.write(tell, b"network")
                os.read(heard, 1)  # until they have been opened
        except OSError as error:
            os.write(tell, str(error).encode())

    pid = birth.fork(body, keep=(tell, heard))
    try:
        os.close(tell)
        tell = -1
        _expect(told, b"users")
        text = f"0 {first} {count}"
        if first == 0:  # an ordinary user's fabric: the user, and his subordinate ids apart
            text = f"0 0 1\n1 1 {count - 1}"
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{pid}/{name}", "w") as file:
                file.write(text)
        users = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.write(hear, b"x")
            _expect(told, b"network")
            network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except BaseException:
            os.close(users)
            raise
        return Domain(users, network)
    finally:
        for fd in (told, tell, heard, hear):
            if fd >= 0:
                os.close(fd)
        os.waitpid(pid, 0)


def _expect(told: int, word: bytes) -> None:
    seen = os.read(told, 4096)
    if seen != word:
        text = seen.decode(errors="replace") or "its process ended without a word"
        raise OSError(f"user namespace of a machine: {text}")
