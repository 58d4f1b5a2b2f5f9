"""Ids of this host that are given to a user for machines of his, see subuid(5)."""

from __future__ import annotations

import os
import pwd
import shutil
from typing import NamedTuple

from pytest_carthage.errors import Problem
from pytest_carthage.fabric.host import privilege
from pytest_carthage.fabric.host.programs import PATH, missing

__all__ = [
    "COUNT",
    "FILES",
    "Maps",
    "forbidden",
    "of_root",
    "of_user",
    "problems",
    "user_name",
]

#: how many a machine has at least: 0 to 65535, as every distribution expects
COUNT = 65536
#: how many it has where nobody has said: all that are not negative for programs that count so, as
#: those that a directory gives to its users
_MOST = 1 << 31
#: where they are written down: of users, and of groups
FILES = ("/etc/subuid", "/etc/subgid")
#: root may take any; these are those that Incus and LXD take, beyond what login(1)'s tools give
#: to users
_FIRST = 1_000_000
_PROGRAMS = ("newuidmap", "newgidmap")
#: where useradd(8) begins to give them
_FIRST_OF_USERS = 100_000


class Maps(NamedTuple):
    """What the ids of a user namespace stand for: arguments of newuidmap(1) and newgidmap(1)."""

    uids: tuple[int, ...]
    gids: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many ids there are, root included."""
        return 1 + self.uids[-1]


def of_root(files: tuple[str, str] = FILES) -> tuple[int, int]:
    """First id and number of ids that machines built by root have: those given to root, if any."""
    uids, gids = (_given(file, "root", 0, least=COUNT) for file in files)
    if uids is None or uids != gids:
        return _FIRST, _MOST
    return uids


def of_user(files: tuple[str, str] = FILES) -> Maps | None:
    """What root and all others of a machine are for this user; None: too few ids were given to him.

    Root is the user himself, and the others are his subordinate ids in a row, as ``unshare
    --map-root-user --map-auto`` has it, with which his images are built. There are as many of
    users as of groups.
    """
    if not all(shutil.which(program, path=PATH) for program in _PROGRAMS):
        return None
    name, uid = user_name(), os.getuid()
    given = [_given(file, name, uid, least=COUNT - 1) for file in files]
    firsts = [ids[0] for ids in given if ids is not None]
    if len(firsts) < len(files):
        return None
    count = min(ids[1] for ids in given if ids is not None)
    own = uid, os.getgid()
    return Maps(*((0, mine, 1, 1, first, count) for mine, first in zip(own, firsts, strict=True)))


def problems(
    who: str, files: tuple[str, str] = FILES, *, whose: str | None = None
) -> list[Problem]:
    """What keeps a user from having more ids than his own in a user namespace.

    :param whose: the user's name; None: who asks.
    """
    found = missing(who, {"newuidmap": "uidmap"}, "gives files and processes other owners")
    name = whose or user_name()
    number = pwd.getpwnam(whose).pw_uid if whose else os.getuid()
    lacking = [file for file in files if _given(file, name, number, least=COUNT - 1) is None]
    if lacking:
        first = max(_FIRST_OF_USERS, *(_end(file) for file in files))
        ids = f"{first}-{first + COUNT - 1}"
        command = ("usermod", "--add-subuids", ids, "--add-subgids", ids, name)
        found.append(
            Problem(
                who=who,
                what=f"no {COUNT} subordinate ids for user {name} in {' and '.join(lacking)}",
                remedy=" ".join(command),
                command=command,
            )
        )
    return found


def forbidden(who: str) -> list[Problem]:
    """What keeps this user, or root, from making machines whose files have owners of their own."""
    if not privilege.is_privileged():
        return privilege.user_namespace_problems() or problems(who)
    # what forbids them to others does not forbid them to root
    return privilege.none_allowed()


def user_name() -> str:
    """The name of this user, or his number where he has none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _given(file: str, name: str, number: int, *, least: int = 1) -> tuple[int, int] | None:
    """First id and number of ids of the first range that a file gives to a user; None: too few.

    :param least: how many are needed.
    """
    for whose, first, count in _rows(file):
        if whose in (name, str(number)) and count >= least:
            return first, count
    return None


def _end(file: str) -> int:
    """The first id beyond all that a file gives to anybody."""
    return max((first + count for _, first, count in _rows(file)), default=0)


def _rows(file: str) -> list[tuple[str, int, int]]:
    """Whose a range is, its first id and the number of its ids."""
    try:
        with open(file) as lines:
            rows = [line.strip().split(":") for line in lines]
    except OSError:
        return []
    return [
        (row[0], int(row[1]), int(row[2]))
        for row in rows
        if len(row) == 3 and (row[1] + row[2]).isdecimal()
    ]
