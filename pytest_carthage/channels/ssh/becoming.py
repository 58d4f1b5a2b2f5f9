"""Becoming another user on a host, by what is installed there."""

from __future__ import annotations

import secrets as random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_carthage.errors import FabricError

if TYPE_CHECKING:
    from pytest_carthage.channels.ssh.way import Secrets, Way

__all__ = ["METHODS", "Admission", "Becoming", "becoming", "refusal_of"]

#: method to the command that makes another user of the one behind it, where no password is asked
METHODS = {
    "sudo": ("sudo", "-n", "-u", "{user}", "--"),
    "doas": ("doas", "-n", "-u", "{user}", "--"),
    "su": ("su", "-s", "/bin/sh", "-c", 'exec "$@"', "--", "{user}", "sh"),
}
#: what su(1) asks, by pam_unix(8), whose words are those of the C locale
_SU_PROMPT = b"Password: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Becoming:
    """What stands before a command so that it is another user's, and what is answered there."""

    words: Sequence[str] = ()
    #: what is printed on standard error when the password is to be given; empty: it never is
    prompt: bytes = b""
    #: what is printed there once the command begins, whether a password was asked for or not
    begun: bytes = b""
    password: bytes = field(default=b"", repr=False)


def becoming(way: Way, secrets: Secrets) -> Becoming:
    """What makes a command one of the user who is wanted.

    A password is given when it is asked for, and never before: where none is asked, it would be
    what the command reads.
    """
    if way.become is None:
        return Becoming()
    if secrets.become_password is None:
        return Becoming(words=[word.format(user=way.become) for word in METHODS[way.become_method]])
    mark = random.token_hex(16)
    begin = f'printf %s {mark}-begun >&2; unset LC_ALL; exec "$@"'
    if way.become_method == "su":
        prompt = _SU_PROMPT
        words = ["env", "LC_ALL=C", "su", "-s", "/bin/sh", "-c", begin, "--", way.become, "sh"]
    else:
        prompt = f"{mark}-asked".encode()
        # -k: whether it is asked for does not depend on what was asked before
        words = ["sudo", "-k", "-S", "-p", prompt.decode(), "-u", way.become, "--"]
        words += ["/bin/sh", "-c", begin, "sh"]
    return Becoming(
        words=words,
        prompt=prompt,
        begun=f"{mark}-begun".encode(),
        password=f"{secrets.become_password}\n".encode(),
    )


class Admission:
    """What is said before a command begins that is another user's."""

    def __init__(self, becoming: Becoming) -> None:
        self._marks = [mark for mark in (becoming.prompt, becoming.begun) if mark]
        self._becoming = becoming
        self._rest = b""
        self._asked = 0
        #: whether the command has begun: all that is printed is its own
        self.is_over = not becoming.begun

    def take(self, data: bytes) -> tuple[bytes, Sequence[bytes | None]]:
        """Take in what is printed.

        :return: what is left of it for who reads it, and what is to be answered; None: nothing
            more, since the password was wrong.
        """
        if self.is_over:
            return data, ()
        self._rest += data
        kept: list[bytes] = []
        answers: list[bytes | None] = []
        while not self.is_over:
            places = [(at, m) for m in self._marks if (at := self._rest.find(m)) >= 0]
            if not places:
                break
            at, mark = min(places)
            kept.append(self._rest[:at])
            self._rest = self._rest[at + len(mark) :]
            if mark == self._becoming.begun:
                self.is_over = True
            else:
                self._asked += 1
                answers.append(self._becoming.password if self._asked == 1 else None)
        held = 0 if self.is_over else max(self._begun_at_end(mark) for mark in self._marks)
        end = len(self._rest) - held
        kept.append(self._rest[:end])
        self._rest = self._rest[end:]
        return b"".join(kept), answers

    def _begun_at_end(self, mark: bytes) -> int:
        """How many of the last bytes may be the first ones of a mark."""
        most = min(len(mark) - 1, len(self._rest))
        return next((n for n in range(most, 0, -1) if self._rest.endswith(mark[:n])), 0)

    def left(self) -> bytes:
        """What was held back, now that nothing more is printed."""
        rest, self._rest = self._rest, b""
        return rest


def refusal_of(way: Way, secrets: Secrets, said: str) -> FabricError:
    """What is told of a host that makes nobody another user."""
    method, user = way.become_method, way.become
    if method == "doas":
        remedy = "a rule with nopass in its doas.conf"
    elif secrets.become_password is not None:
        remedy = f"another password in {way.become_password_env}"
    elif method == "su":
        remedy = f"become_password_env= (su asks for the password of {user})"
    else:
        remedy = f"NOPASSWD in its sudoers, or become_password_env= ({method} asks for a password)"
    return FabricError(
        f"ssh {way}: {method} makes nobody {user} there: {said or 'it says nothing'}; try: {remedy}"
    )
