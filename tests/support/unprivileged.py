"""Running a command as an ordinary user, wherever the tests themselves run as root."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["account", "as_user"]

#: an ordinary account that every Debian has
USER = "www-data"

REPOSITORY = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def account() -> Iterator[str]:
    """A new account with subordinate ids, as people have; it is removed afterwards."""
    name = f"carthage{secrets.token_hex(3)}"
    subprocess.run(["useradd", "--no-create-home", "--shell", "/bin/sh", name], check=True)
    try:
        if f"{name}:" not in Path("/etc/subuid").read_text():
            ids = ["--add-subuids", "500000-565535", "--add-subgids", "500000-565535"]
            subprocess.run(["usermod", *ids, name], check=True)
        yield name
    finally:
        subprocess.run(["userdel", "--force", name], check=True, capture_output=True)


def as_user(argv: list[str], *, home: Path, user: str = USER) -> list[str]:
    """Return a command that runs ``argv`` without privileges, with ``home`` as its home.

    Root's Python often lies in a folder that nobody else can enter. The command then gets a mount
    namespace in which that folder holds the Python and nothing else.
    """
    unset = ["-u", "XDG_STATE_HOME", "-u", "XDG_RUNTIME_DIR", "-u", "USER"]
    if os.geteuid() != 0:
        return ["env", *unset, f"HOME={home}", *argv]
    assert home.resolve().parent != Path("/"), "it becomes that user's"
    shutil.chown(home, user, user)
    needed = [Path(sys.base_prefix), Path(sys.prefix), REPOSITORY]
    lines = ["set -e"]
    closed: dict[Path, list[Path]] = {}
    for path in needed:
        barrier = _barrier(path)
        if barrier is not None:
            closed.setdefault(barrier, []).append(path)
    for number, (folder, paths) in enumerate(closed.items()):
        staging = f"/mnt/{number}"
        lines.append("mount -t tmpfs -o mode=755 tmpfs /mnt" if number == 0 else ":")
        for inner, path in enumerate(paths):
            lines.append(f"mkdir -p {staging}/{inner}")
            lines.append(f"mount --bind {shlex.quote(str(path))} {staging}/{inner}")
        lines.append(f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(folder))}")
        for inner, path in enumerate(paths):
            lines.append(f"mkdir -p {shlex.quote(str(path))}")
            lines.append(f"mount --move {staging}/{inner} {shlex.quote(str(path))}")
    options = f"--reuid {user} --regid {user} --clear-groups"
    environment = shlex.join([*unset, f"HOME={home}"])
    lines.append(f'exec setpriv {options} env {environment} "$@"')
    script = "\n".join(lines)
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *argv]


def _barrier(path: Path) -> Path | None:
    """The outermost folder on the way to a path that others cannot enter."""
    for folder in [*reversed(path.parents), path]:
        if not folder.stat().st_mode & 0o001:
            return folder
    return None
