"""The command of an image without an init, as the first process of a machine."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.errors import BuildError
from pytest_carthage.fabric import plain_file
from pytest_carthage.handles.lines import lines_of
from pytest_carthage.images.exports.boot.merged import locate

if TYPE_CHECKING:
    from pytest_carthage.model.image import ImageConfig

__all__ = ["command_of_user", "command_script"]

_SCRIPT = """#!/run/carthage/sh
b=/run/carthage/busybox
$b ip link set lo up
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=@HOME@
@ENV@
cd @WORKDIR@
@COMMAND@ < /dev/console > /dev/console 2>&1
echo "carthage: the command ended with status $?" > /dev/console
$b sync
$b poweroff -f
"""


def command_script(config: ImageConfig, trees: Sequence[Path]) -> str:
    """The init of an image without systemd.

    :param trees: the image's, the top first: who its users are.
    :raises BuildError: the command's user is unknown.
    """
    command, home = command_of_user(config.command or ("/bin/sh",), config.user, trees)
    env = [f"export {name}={shlex.quote(value)}" for name, value in config.env]
    parts = {
        "@HOME@": shlex.quote(home),
        "@ENV@": "\n".join(env),
        "@WORKDIR@": shlex.quote(config.workdir or "/"),
        "@COMMAND@": command,
    }
    return re.sub("|".join(parts), lambda match: parts[match[0]], _SCRIPT)


def command_of_user(argv: Sequence[str], user: str, trees: Sequence[Path]) -> tuple[str, str]:
    """A command as a shell runs it for a user, and the user's home; ``$b`` is busybox.

    :raises BuildError: the user is unknown.
    """
    program, *arguments = argv
    owner, home = _user(user, trees)
    if not owner:
        return shlex.join(argv), home
    command = f"$b start-stop-daemon -S -c {owner} -x {shlex.quote(program)} -- "
    return command + shlex.join(arguments), home


def _user(user: str, trees: Sequence[Path]) -> tuple[str, str]:
    """Numbers of a user and a group (empty: root), and the home; as runtimes of OCI find them."""
    name, _, group = user.partition(":")
    if name in ("", "0", "root") and not group:
        return "", "/root"
    users, groups = (_table(trees, file) for file in ("etc/passwd", "etc/group"))
    row = next((row for row in users if name in (row[0], row[2])), None)
    number = next((row[2] for row in groups if group and group in (row[0], row[2])), group)
    # busybox starts nothing for somebody who is not there, not even by number
    if row is None or not (number or row[3]).isdigit():
        raise BuildError(
            f"user {user!r} of the command is not in the image's /etc/passwd or /etc/group; "
            "try: another user=, or a task that adds this one"
        )
    return f"{row[2]}:{number or row[3]}", row[5] or "/"


def _table(trees: Sequence[Path], name: str) -> list[list[str]]:
    path = locate(trees, name)
    lines = [] if path is None else lines_of(plain_file.read(path).decode(errors="replace"))
    return [[*line.split(":"), "", "", "", "", "", ""] for line in lines]
