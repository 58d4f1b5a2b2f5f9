"""Who gives an ordinary user a control group: the systemd of his session, or root beforehand.

What root does is in :func:`recipe`; a systemd of the user's is asked for a scope(5) that the
supervisor of a run is started in.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Collection

from pytest_carthage.errors import Problem
from pytest_carthage.fabric.container import groups
from pytest_carthage.fabric.host.privilege import is_privileged
from pytest_carthage.fabric.host.programs import PATH
from pytest_carthage.fabric.host.subids import user_name

__all__ = ["group_of", "limit_problems", "problems", "recipe", "scope"]

#: what its owner writes to, see "Model of Delegation" in the kernel's cgroup-v2
_FILES = ("", "/cgroup.procs", "/cgroup.threads", "/cgroup.subtree_control")
_CONTROLLERS = ("cpu", "memory", "pids")


def scope() -> list[str]:
    """Beginning of a command that gets a control group from this user's systemd, if there is one.

    Nothing for root, who needs none.
    """
    folder = os.environ.get("XDG_RUNTIME_DIR", "")
    program = shutil.which("systemd-run", path=PATH)
    if not folder or program is None or is_privileged() or not _answers(folder):
        return []
    return [program, "--user", "--scope", "--quiet", "--collect", "-pDelegate=yes", "--"]


def _answers(folder: str) -> bool:
    """Whether a systemd of this user listens."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(f"{folder}/systemd/private")
        except OSError:
            return False
    return True


def group_of(name: str) -> str:
    """The control group that :func:`recipe` gives to a user."""
    return f"/carthage-{name}"


def recipe(name: str) -> str:
    """Commands of a shell by which root gives it a control group, and goes on as that user."""
    if not groups.is_unified():
        return (
            f"for top in systemd unified; do g=/sys/fs/cgroup/$top{group_of(name)}; mkdir -p $g; "
            f"chown {name} $g $g/cgroup.procs; echo $$ >$g/cgroup.procs; done; su {name}"
        )
    handed = " ".join(f"+{controller}" for controller in _CONTROLLERS)
    files = " ".join(f"$g{file}" for file in _FILES)
    return (
        f"g=/sys/fs/cgroup{group_of(name)}; mkdir -p $g; "
        f"echo '{handed}' >/sys/fs/cgroup/cgroup.subtree_control; "
        f"chown {name} {files}; echo $$ >$g/cgroup.procs; su {name}"
    )


def problems(who: str, whose: str) -> list[Problem]:
    """What keeps machines that boot an init from having a control group.

    :param whose: in words, of which machines.
    """
    if groups.is_delegated() or scope():
        return []
    name = user_name()
    return [
        Problem(
            who=who,
            what=f"{whose} need a control group that is delegated to this user, and the one of"
            " this process is not",
            remedy=f"log in to a session of systemd, which gives one; or as root, in the shell that"
            f" pytest is started from: {recipe(name)}",
        )
    ]


def limit_problems(who: str, whose: str, needed: Collection[str]) -> list[Problem]:
    """What keeps machines from being limited where root does not make their control groups.

    :param whose: in words, of which machines.
    :param needed: controllers, by their names in version 2.
    """
    what = f"limits= of {whose} needs {_list(needed)} of a control group"
    if not groups.is_unified():
        return [
            Problem(
                who=who,
                what=f"{what}, which version 1 of control groups gives to root alone",
                remedy="run as root, or on a host with version 2 alone, or leave limits= out",
            )
        ]
    lacking = set(needed) - _offered()
    if not lacking:
        return []
    if scope():
        remedy = (
            "as root: mkdir -p /etc/systemd/system/user@.service.d; printf '[Service]\\n"
            f"Delegate={' '.join(_CONTROLLERS)}\\n' >/etc/systemd/system/user@.service.d/"
            "carthage.conf; systemctl daemon-reload; and log in again"
        )
    else:
        remedy = f"as root, in the shell that pytest is started from: {recipe(user_name())}"
    return [
        Problem(
            who=who,
            what=f"{what} that is delegated to this user, which lacks {_list(lacking)}",
            remedy=remedy,
        )
    ]


def _offered() -> set[str]:
    """Controllers of version 2 that machines of this user can have."""
    if scope():
        number = os.getuid()
        slices = f"user.slice/user-{number}.slice/user@{number}.service"
        return groups.controllers_of(f"/sys/fs/cgroup/{slices}")
    top = groups.tops().get("")
    return groups.controllers_of(top) if top else set()


def _list(names: Collection[str]) -> str:
    return f"controller{'s'[: len(names) > 1]} {', '.join(sorted(names))}"
