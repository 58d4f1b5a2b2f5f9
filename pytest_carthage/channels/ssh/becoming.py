"""Becoming another user on a host, by what is installed there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_carthage.errors import FabricError

if TYPE_CHECKING:
    from pytest_carthage.channels.ssh.way import Secrets, Way

__all__ = ["METHODS", "becoming", "first_input", "refusal_of"]

#: method to the command that makes another user of the one behind it
METHODS = {
    "sudo": ("sudo", "-n", "-u", "{user}", "--"),
    "doas": ("doas", "-n", "-u", "{user}", "--"),
}


def becoming(way: Way, secrets: Secrets) -> Sequence[str]:
    """What stands before a command so that it is run by who is wanted."""
    if way.become is None:
        return ()
    words = [word.format(user=way.become) for word in METHODS[way.become_method]]
    if secrets.become_password is None:
        return words
    # the password is read in any case (-k), so that the command never gets it as its input
    return ["sudo", "-k", "-S", "-p", "", *words[2:]]


def first_input(way: Way, secrets: Secrets) -> bytes:
    """What each command has to be given before its own input."""
    if way.become is None or secrets.become_password is None:
        return b""
    return f"{secrets.become_password}\n".encode()


def refusal_of(way: Way, secrets: Secrets, said: str) -> FabricError:
    """What is told of a host that makes nobody another user."""
    method, user = way.become_method, way.become
    if secrets.become_password is None:
        remedy = f"NOPASSWD in its sudoers, or become_password_env= ({method} asks for a password)"
    else:
        remedy = f"another password in {way.become_password_env}"
    if method != "sudo":
        remedy = "a rule with nopass in its doas.conf"
    return FabricError(
        f"ssh {way}: {method} makes nobody {user} there: {said or 'it says nothing'}; try: {remedy}"
    )
