"""Root file systems of machines with an image: its layers, with one of the machine's own above."""

from __future__ import annotations

import errno
import fcntl
import os

from pytest_carthage import clock
from pytest_carthage.fabric import syscalls as sys_
from pytest_carthage.fabric.wire.steps import Steps, pause

#: where they are mounted
FOLDER = "/run/carthage-roots"
#: where layers are, with the owners that machines see
LAYERS = "/run/carthage-layers"
#: the longest that somebody may keep an image's layer for himself
_LOCK_S = 60.0


def furnish() -> None:
    """Make the place for them: what is mounted there is seen in mount namespaces made before."""
    os.mkdir(FOLDER)
    sys_.mount("tmpfs", FOLDER, "tmpfs", sys_.MS_NODEV, "mode=0711")
    sys_.mount("none", FOLDER, None, sys_.MS_SHARED)


def leave() -> None:
    """Have none of them in the mount namespace that the caller is in, which keeps them in use."""
    if os.path.isdir(FOLDER) and os.listdir(FOLDER):
        sys_.umount(FOLDER)


class Roots:
    """Those of one fabric."""

    def __init__(self, *, unprivileged: bool) -> None:
        self._unprivileged = unprivileged
        #: machine to what keeps its image from being removed
        self._holds: dict[str, int] = {}
        #: folder of a layer to where it is shown
        self._layers: dict[str, str] = {}

    def mount(
        self, machine: str, *, lower: list[str], upper: str, work: str, users: int = -1
    ) -> Steps[str]:
        """Mount a machine's root; returns its path.

        :param lower: folders of layers, the top first.
        :param users: descriptor of the user namespace whose root is to own what root owns; the
            machine's own layer belongs to it as it is. -1: nobody's in particular.
        :raises OSError: the kernel refused, or somebody else has locked the top layer.
        """
        if machine in self._holds:
            raise ValueError(f"machine {machine!r} has a root already")
        hold = yield from _shared(os.path.dirname(lower[0]))
        try:
            path = f"{FOLDER}/{machine}"
            os.makedirs(path, exist_ok=True)
            # nobody reads a machine's own layer after a crash of this host
            own = ["index=off"]
            # what a user namespace may use excludes every other word on redirections
            own += ["userxattr"] if self._unprivileged else ["redirect_dir=off"]
            flags = 0
            # layers of an ordinary user's have the owners that his machines see already
            if users >= 0 and not self._unprivileged:
                lower = [self._shown(folder, users) for folder in lower]
                flags = sys_.MS_NODEV  # an image's nodes are nodes of the host's devices
            sys_.mount_overlay(path, lower, [*own, "volatile"], upper=upper, work=work, flags=flags)
        except BaseException:
            os.close(hold)
            raise
        self._holds[machine] = hold
        return path

    def _shown(self, folder: str, users: int) -> str:
        """Where a layer is seen with owners as a user namespace has them.

        All machines have the same map, so that each layer is shown once; it can be removed from
        the store all the same.
        """
        if folder not in self._layers:
            path = f"{LAYERS}/{len(self._layers)}"
            os.makedirs(path)
            sys_.mount_idmapped(folder, path, users)
            self._layers[folder] = path
        return self._layers[folder]

    def unmount(self, machine: str) -> None:
        """Unmount a machine's root; one that is gone already is not an error.

        :raises OSError: the kernel refused; it is still there, and its image is still held.
        """
        if machine not in self._holds:
            return
        try:
            sys_.umount(f"{FOLDER}/{machine}")
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT):  # nothing is mounted there
                raise
        os.close(self._holds.pop(machine))


def _shared(folder: str) -> Steps[int]:
    """A descriptor of a folder that nobody may remove while it is open."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    deadline = clock.monotonic_s() + _LOCK_S
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                if clock.monotonic_s() > deadline:
                    raise OSError(
                        errno.EAGAIN, f"{folder} is locked by somebody else since {_LOCK_S:g} s"
                    ) from None
            else:
                return fd
            yield from pause(0.02)
    except BaseException:
        os.close(fd)
        raise
