"""The control group that a machine is given to do with as it likes: delegated, see cgroups(7).

On a host with version 2 alone that is one folder; where version 1 is beside it, one in systemd's
own hierarchy and one in version 2's. There, whoever boots an init has one in the hierarchies of
controllers as well, by which that bounds its units.

Root makes groups anywhere. An ordinary user makes them below his own group where that was given to
him. Where it was not, machines have no group of their own.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Mapping

from pytest_carthage.fabric import syscalls as sys_
from pytest_carthage.fabric.host import folders

_ROOT = "/sys/fs/cgroup"
#: what the owner of a delegated group has to be able to write, see cgroup_delegation(7)
_DELEGATED = ("cgroup.procs", "cgroup.threads", "cgroup.subtree_control", "tasks")
#: below a machine's group: what we run in it, so that its init has the group itself
AGENT = "carthage"
#: beginning of the names of environments' groups
OURS = "pytest-carthage-"
#: beside those of machines: for whoever has no group of its own in a hierarchy; no machine's name
_APART = "_apart"
#: below a group that was given to us: all that was in it, so that it can have controllers
_REST = "pytest-carthage"
#: of processes that are born while others are moved
_ROUNDS = 100
#: to be faster than an init that removes empty groups
_TRIES = 20
_FLAGS = sys_.MS_NOSUID | sys_.MS_NODEV | sys_.MS_NOEXEC
#: hierarchies beside each other, of a host with both versions: kind and options of their mounts
_HYBRID = {"systemd": ("cgroup", "none,name=systemd"), "unified": ("cgroup2", "")}
#: those of the last four bound nothing there that an init asks for, but engines of containers want
#: every one that the kernel has
_CONTROLLERS = {
    name: ("cgroup", name)
    for name in ("memory", "pids", "cpu", "cpuacct", "cpuset", "devices", "freezer", "blkio")
}
#: of a new group of version 1, empty: what its parent has is to be written there, see cpuset(7)
_INHERITED = ("cpuset.cpus", "cpuset.mems")


def is_unified(root: str = _ROOT) -> bool:
    """Whether this host has version 2 alone."""
    return os.path.exists(f"{root}/cgroup.controllers")


def _hierarchies(*, controllers: bool) -> list[str]:
    if is_unified():
        return [""]
    # of controllers that have a hierarchy in common, their names are links
    return [
        f"/{name}"
        for name in (*_HYBRID, *(_CONTROLLERS if controllers else ()))
        if os.path.exists(f"{_ROOT}/{name}/cgroup.procs") and not os.path.islink(f"{_ROOT}/{name}")
    ]


@functools.cache
def tops() -> Mapping[str, str]:
    """Hierarchy to the folder in which the calling process may make control groups.

    Hierarchies in which it may make none are not there.
    """
    own = _own()
    found: dict[str, str] = {}
    for hierarchy in _hierarchies(controllers=True):
        root = f"{_ROOT}{hierarchy}"
        path = own.get(hierarchy, "").removesuffix(f"/{_REST}").rstrip("/")
        for top in (root, f"{root}{path}"):
            if os.access(top, os.W_OK) and os.access(f"{top}/cgroup.procs", os.W_OK):
                found[hierarchy] = top
                break
    return found


def _own() -> dict[str, str]:
    """Hierarchy to the control group that the calling process is in, see /proc/PID/cgroup."""
    try:
        with open("/proc/self/cgroup") as file:
            rows = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return {}
    found: dict[str, str] = {}
    for _, controllers, path in rows:
        for name in controllers.removeprefix("name=").split(","):
            found[f"/{name}" if name else "" if is_unified() else "/unified"] = path
    return found


def is_delegated() -> bool:
    """Whether machines have a control group of their own, which an init needs."""
    return set(_hierarchies(controllers=False)) <= set(tops())


def controllers_of(folder: str) -> set[str]:
    """Controllers of version 2 that a control group has."""
    try:
        with open(f"{folder}/cgroup.controllers") as file:
            return set(file.read().split())
    except OSError:
        return set()


def open_up() -> None:
    """Have controllers in groups that are made below one that was given to us, of version 2.

    A group that hands controllers down has no processes of its own, see cgroups(7): they are moved
    into one below it. Where that is refused, groups are made without.

    Processes outside of the caller's PID namespace cannot be moved.
    """
    top = tops().get("")
    if top is None or not os.path.exists(f"{top}/cgroup.type"):
        return  # of version 1, or the root of all, for which that is no rule
    try:
        with open(f"{top}/cgroup.subtree_control") as file:
            if controllers_of(top) <= set(file.read().split()):
                return
        os.makedirs(f"{top}/{_REST}", exist_ok=True)
        for _ in range(_ROUNDS):
            with open(f"{top}/cgroup.procs") as file:
                pids = file.read().split()
            if not pids:
                break
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    _write(f"{top}/{_REST}/cgroup.procs", pid)
        _hand_down(top)
    except OSError:
        return


def is_ours(path: str) -> bool:
    """Whether a control group is of an environment, by its name."""
    try:
        return folders.steps(path)[0].startswith(OURS)
    except ValueError:
        return False


def _folders(path: str, *, controllers: bool) -> list[str]:
    """Where a control group is, in each hierarchy; nowhere: there is none.

    :raises ValueError: it would be elsewhere, and somebody else's.
    """
    if not path:
        return []
    folders.steps(path)
    found = tops()
    return [
        f"{found[hierarchy]}{path}"
        for hierarchy in _hierarchies(controllers=controllers)
        if hierarchy in found
    ]


def delegate(path: str, owner: int, *, controllers: bool) -> None:
    """Make a control group that belongs to ``owner``.

    :raises OSError: the kernel refused.
    """
    for folder in _folders(path, controllers=controllers):
        make(path) if is_unified() else _make(folder)
        for name in (folder, *(f"{folder}/{file}" for file in _DELEGATED)):
            if os.path.exists(name):
                os.chown(name, owner, owner)


def _make(folder: str) -> None:
    """Make a group, and those above it, that processes can be in."""
    if os.path.isdir(folder):
        return
    above = os.path.dirname(folder)
    _make(above)
    os.makedirs(folder, exist_ok=True)
    for name in _INHERITED if not is_unified() else ():
        if os.path.exists(f"{folder}/{name}"):
            with open(f"{above}/{name}") as file:
                _write(f"{folder}/{name}", file.read())


def make(path: str) -> str:
    """Make a control group of version 2 that has all controllers that it can; returns its folder.

    :raises OSError: the kernel refused, or no group was given to this user.
    :raises ValueError: the path leads elsewhere.
    """
    names = folders.steps(path)
    parent = tops().get("")
    if parent is None:
        raise OSError(f"no control group below {_ROOT} is this user's")
    for part in names:
        _hand_down(parent)
        parent += f"/{part}"
        os.makedirs(parent, exist_ok=True)
    return parent


def _hand_down(folder: str) -> None:
    """Have the groups below one have its controllers; one that is refused is not there."""
    for controller in controllers_of(folder):
        with contextlib.suppress(OSError):
            _write(f"{folder}/cgroup.subtree_control", f"+{controller}")


def join(path: str, below: str = "", *, controllers: bool) -> None:
    """Move the calling process into a control group, or into one below it, which is made.

    An init removes groups that it finds empty: one that is gone again is made anew.

    :raises OSError: the kernel refused, or it is removed whenever it is made.
    """
    for folder in _folders(path, controllers=controllers):
        if not below:
            _write(f"{folder}/cgroup.procs", "0")
            continue
        for tries in range(_TRIES):
            _make(f"{folder}/{below}")
            try:
                _write(f"{folder}/{below}/cgroup.procs", "0")
                break
            except FileNotFoundError:
                if tries == _TRIES - 1:
                    raise


def those_that_bound_memory(*, has_init: bool) -> list[str]:
    """Hierarchies whose groups decide on memory, see :func:`tops`; with an init, its own, too."""
    if is_unified():
        return [""]
    return ["/memory", *(f"/{name}" for name in _HYBRID if has_init and f"/{name}" in tops())]


def stand_beside(path: str, hierarchy: str) -> None:
    """Have the calling process be beside a control group, in no bounds that we have set.

    :param hierarchy: as in :func:`tops`.
    :raises OSError: the kernel refused.
    """
    beside = f"{os.path.dirname(path)}/{_APART}"
    folder = make(beside) if is_unified() else f"{tops()[hierarchy]}{beside}"
    if not is_unified():
        _make(folder)
    _write(f"{folder}/cgroup.procs", "0")


def leave_others(path: str) -> None:
    """Have the calling process be alone with its like wherever it is not in ``path`` or below yet.

    A control group namespace shows all that is below of the groups that it is made in: of version 1
    that would be the host's, and those of other machines. Where the caller may not leave them, as
    an ordinary user may not, it stays.
    """
    if is_unified():
        return
    own = _own()
    for name in os.listdir(_ROOT):
        top = f"{_ROOT}/{name}"
        if f"{path}/" in f"{own.get(f'/{name}', path)}/" or os.path.islink(top):
            continue
        folder = f"{top}{os.path.dirname(path)}/{_APART}"
        try:
            for above in (os.path.dirname(folder), folder):
                if not os.path.isdir(above):
                    os.mkdir(above)
                    _take_over(above)
            _write(f"{folder}/cgroup.procs", "0")
        except OSError:
            continue


def _take_over(folder: str) -> None:
    """Give a new group the processors of that above it: it has none."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if os.path.exists(f"{folder}/{name}"):
            with open(f"{os.path.dirname(folder)}/{name}") as file:
                _write(f"{folder}/{name}", file.read())


def mount(target: str, *, controllers: bool) -> None:
    """Mount the hierarchies, as a process sees them whose control group namespace is new."""
    if is_unified():
        sys_.mount("cgroup2", target, "cgroup2", _FLAGS)
        return
    hierarchies = _hierarchies(controllers=controllers)
    sys_.mount("tmpfs", target, "tmpfs", _FLAGS, "mode=0755")
    for hierarchy in hierarchies:
        kind, options = (_HYBRID | _CONTROLLERS)[hierarchy[1:]]
        os.mkdir(target + hierarchy)
        sys_.mount(kind, target + hierarchy, kind, _FLAGS, options)
    sys_.set_mount(target, add=sys_.ATTR_RDONLY)


def remove(path: str) -> None:
    """Remove a control group whose processes are gone, and those below; else it stays."""
    for top in _folders(path, controllers=True):
        for folder, _, _ in os.walk(top, topdown=False):
            try:
                os.rmdir(folder)
            except OSError:
                continue


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
