"""How libvirtd is started beside a host's own one: with other folders in the places of that's."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

__all__ = ["FOLDERS", "MACHINES", "PID_FILE", "script", "write_configuration"]

#: file in what is /run/libvirt to it: its process id, as the fabric counts
PID_FILE = "libvirtd.pid"

#: where the folders of machines are for libvirtd and QEMU: the path of a socket has 108 bytes
MACHINES = "/run/carthage-vm"

#: folder that every libvirtd uses to the one of ours that stands there
FOLDERS = {
    "/run/libvirt": "run",
    "/etc/libvirt": "etc",
    "/var/lib/libvirt": "lib",
    "/var/cache/libvirt": "cache",
    "/var/log/libvirt": "log",
}

#: see libvirtd.conf: nobody is asked who he is, who has come into the folder of the socket
_DAEMON = {
    "auth_unix_ro": "none",
    "auth_unix_rw": "none",
    "unix_sock_group": "root",
    "unix_sock_ro_perms": "0700",
    "unix_sock_rw_perms": "0700",
    "unix_sock_admin_perms": "0700",
    "log_outputs": "3:stderr",
}

#: see qemu.conf: nothing that is there for a whole host. The user must be named: else what QEMU can
#: do is found out anew for each machine, in 4 s
_QEMU = {
    "user": "root",
    "group": "root",
    "dynamic_ownership": 0,
    "remember_owner": 0,
    "security_driver": "none",
    "namespaces": [],
    "cgroup_controllers": [],
    "stdio_handler": "file",
    "swtpm_user": "root",
    "swtpm_group": "root",
}

#: libvirt does not start where the user is not known that it was built for, also if qemu.conf names
#: another one; with Debian another package than libvirtd's makes him
_USERS = ("root", "libvirt-qemu", "qemu", "nobody")

# $1: a folder of the host that is shown anew, with one more in it: $2
_SHOW_ANEW = """\
show_anew() {
    new=/run/carthage-anew$1
    mkdir -p "$new"
    mount -t tmpfs -o mode=0755 none "$new"
    for entry in "$1"/* "$1"/.[!.]*; do
        name=${entry##*/}
        if [ -L "$entry" ]; then cp -P "$entry" "$new/"
        elif [ -d "$entry" ]; then mkdir "$new/$name"; mount --rbind "$entry" "$new/$name" || :
        elif [ -e "$entry" ]; then : > "$new/$name"; mount --bind "$entry" "$new/$name" || :
        fi
    done
    mkdir "$new/$2"
    mount --rbind "$new" "$1"
}
"""


def write_configuration(own: Path) -> None:
    """Make the folders that stand for those of :data:`FOLDERS`, with what libvirtd reads."""
    for name in FOLDERS.values():
        (own / name).mkdir(mode=0o700, parents=True)
    for name, settings in (("libvirtd.conf", _DAEMON), ("qemu.conf", _QEMU)):
        lines = [f"{key} = {json.dumps(value)}\n" for key, value in settings.items()]
        (own / "etc" / name).write_text("".join(lines))
    for name, line in (("passwd", "{0}:x:{1}:{1}::/:/bin/false\n"), ("group", "{0}:x:{1}:\n")):
        numbered = enumerate(_USERS)
        (own / name).write_text("".join(line.format(user, number) for number, user in numbered))


def script(own: Path, machines: Path, libvirtd: str) -> str:
    """What a shell in a mount namespace of its own, in the fabric, runs; it ends with libvirtd.

    :param own: folder with those of :func:`write_configuration`.
    :param machines: folder of the machines' own folders.
    """
    lines = ["set -e", _SHOW_ANEW]
    for path in FOLDERS:
        parent, _, name = path.rpartition("/")
        if parent == "/run":  # the fabric's own
            lines.append(f"mkdir -p {path}")
        elif not Path(path).is_dir():
            lines.append(f"show_anew {parent} {name}")
    lines += [
        f"mount --bind {shlex.quote(str(own / name))} {path}" for path, name in FOLDERS.items()
    ]
    lines += [
        f"mount --bind {shlex.quote(str(own / name))} /etc/{name}" for name in ("passwd", "group")
    ]
    lines += [
        f"mkdir -p {MACHINES}",
        f"mount --bind {shlex.quote(str(machines))} {MACHINES}",
        "set +e",
        f"{shlex.quote(libvirtd)} --config /etc/libvirt/libvirtd.conf"
        f" --pid-file /run/libvirt/{PID_FILE}",
        "echo $? > ended",
    ]
    return "\n".join(lines)
