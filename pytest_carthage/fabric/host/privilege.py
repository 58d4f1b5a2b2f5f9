"""What this process may ask of the kernel: namespaces as root, or by a user namespace."""

from __future__ import annotations

from pathlib import Path

from pytest_carthage.errors import Problem

_PROC = Path("/proc")
_NET_ADMIN, _SYS_ADMIN = 12, 21  # capabilities(7)
_REMEDY = (
    "run as root (in a container: with CAP_SYS_ADMIN and CAP_NET_ADMIN), "
    "or allow user namespaces: sysctl -w user.max_user_namespaces=10000"
)


def is_privileged(proc: Path = _PROC) -> bool:
    """Whether this process can make namespaces without a user namespace around them."""
    for line in (proc / "self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
            return bool(effective >> _SYS_ADMIN & 1 and effective >> _NET_ADMIN & 1)
    return False


def user_namespace_problems(proc: Path = _PROC) -> list[Problem]:
    """What forbids user namespaces on this host, by its own switches."""
    if problems := none_allowed(proc):
        return problems
    for path, closed, cure in (
        (
            "sys/kernel/unprivileged_userns_clone",
            "0",
            "kernel.unprivileged_userns_clone=1",
        ),
        (
            "sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ):
        try:
            value = (proc / path).read_text().strip()
        except OSError:
            continue
        if value == closed:
            return [
                Problem(
                    who="namespaces",
                    what="no privileges, and user namespaces are closed "
                    f"(/proc/{path} is {closed})",
                    remedy=f"run as root, or: sysctl -w {cure}",
                )
            ]
    return []


def none_allowed(proc: Path = _PROC) -> list[Problem]:
    """What forbids user namespaces to everybody, root included."""
    try:
        most = int((proc / "sys/user/max_user_namespaces").read_text())
    except (OSError, ValueError):
        most = 0
    if most == 0:
        return [refused("this kernel allows no user namespaces (user.max_user_namespaces is 0)")]
    return []


def refused(seen: str) -> Problem:
    """The problem of a host on which namespaces cannot be made."""
    return Problem(
        who="namespaces",
        what=f"the fabric's namespaces cannot be made: {seen}",
        remedy=_REMEDY,
    )
