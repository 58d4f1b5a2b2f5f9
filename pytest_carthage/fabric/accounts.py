"""Users and groups of the file system that the caller is in.

Read from the files, as container engines do: the C library of this process is the host's,
and must not load name service modules from a machine's file system.

A supervisor loads this, too, whose start every run waits for: hence no dataclass, which takes
longer to be imported than all of the fabric.
"""

from __future__ import annotations

from typing import NamedTuple

from pytest_carthage.fabric import plain_file


class Account(NamedTuple):
    """Whom a command runs as."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    shell: str


def _rows(path: str, width: int) -> list[list[str]]:
    try:
        text = plain_file.read(path).decode(errors="replace")
    except FileNotFoundError:
        return []
    rows = (line.split(":") for line in text.split("\n"))
    return [row for row in rows if len(row) >= width]


def name_of(number: int, path: str) -> str:
    """The name of a user's or group's number; the number where there is none.

    :param path: ``/etc/passwd`` or ``/etc/group``.
    """
    return next((row[0] for row in _rows(path, 3) if row[2] == str(number)), str(number))


def find(user: str, group: str | None = None) -> Account:
    """Look up a user by name or number.

    :raises LookupError: there is no such user or group; lists some that exist.
    :raises OSError: ``/etc/passwd`` or ``/etc/group`` is no file, or a very long one.
    """
    name, uid, gid, home, shell = user, -1, -1, "/", "/bin/sh"
    rows = _rows("/etc/passwd", 7)
    for row in rows:
        if user in (row[0], row[2]):
            name, uid, gid, home, shell = row[0], int(row[2]), int(row[3]), row[5], row[6]
            break
    else:
        if not user.isdecimal():
            known = ", ".join(row[0] for row in rows) or "none"
            raise LookupError(f"no user {user!r} in /etc/passwd; there are: {known}")
        uid = gid = int(user)
    groups = [gid]
    named = _rows("/etc/group", 4)
    groups += [int(row[2]) for row in named if name in row[3].split(",")]
    if group is not None:
        for row in named:
            if group in (row[0], row[2]):
                gid = int(row[2])
                break
        else:
            if not group.isdecimal():
                raise LookupError(f"no group {group!r} in /etc/group")
            gid = int(group)
    return Account(
        name=name,
        uid=uid,
        gid=gid,
        groups=tuple(dict.fromkeys(groups)),
        home=home,
        shell=shell or "/bin/sh",
    )
