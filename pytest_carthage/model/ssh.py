"""Machines that exist, and are reached by ssh."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from pytest_carthage.model.mistakes.declaring import declared
from pytest_carthage.model.mistakes.value import shown
from pytest_carthage.model.names import is_user
from pytest_carthage.model.on import On

__all__ = ["Ssh"]


@declared("ssh")
@dataclass(frozen=True, slots=True)
class Ssh(On):
    """A host that exists, reached by ssh: ``Machine(on=Ssh("db1.lab", user="root"))``.

    :param host: name or address, or an alias of the user's ssh configuration.
    :param user: None: what the configuration says, else the user who runs the tests.
    :param port: None: what the configuration says, else 22.
    """

    target: ClassVar[str] = "ssh"

    host: str
    _: KW_ONLY
    user: str | None = None
    port: int | None = None

    def wrong_values(self) -> Iterator[tuple[str, str]]:
        """What is wrong with its values, and what can be written instead."""
        host: object = self.host
        if not isinstance(host, str) or not re.fullmatch(r"[^\s\-@/][^\s@/]{0,252}", host):
            yield f"ssh host {shown(host)} is no name of a host", 'Ssh("db1.lab", user="root")'
        user: object = self.user
        if user is not None and not (isinstance(user, str) and is_user(user)):
            yield f"ssh user {shown(user)} is no name of a user", 'user="root"'
        port: object = self.port
        if port is not None and not (type(port) is int and 0 < port < 65536):
            yield f"ssh port {shown(port)} is not from 1 to 65535", "port=22"
