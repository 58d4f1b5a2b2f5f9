"""Modules of the kernel, as a machine has them: what it loads is noted, and nothing comes of it.

A server's playbook loads ``br_netfilter`` and the like, and goes on. The kernel is the host's, so
modprobe(8) finds one module here, by whatever name it looks, for which it is told to run a program
in place of loading it (modprobe.d(5), "install"). That says so in ``/proc/modules``, where the next
one looks, and notes it for :func:`changed`. What the kernel has already is not noted: it is there.
"""

from __future__ import annotations

import os
import struct

from pytest_carthage.fabric import plain_file
from pytest_carthage.fabric import syscalls as sys_

_MODULE = "carthage_inert"
#: what is not for the machine's programs; below it: what modprobe reads, what it runs, what that
#: writes
_HIDDEN = "/dev/.carthage"
_FOLDER, _PROGRAM = f"{_HIDDEN}/modules", f"{_HIDDEN}/module"
_LOADED, _NOTES = f"{_HIDDEN}/modules-loaded", f"{_HIDDEN}/modules-set"
_CONFIGURATION = "/run/modprobe.d/carthage.conf"
_LIST = "/proc/modules"
#: of sh: its arguments are the process id of modprobe, and -r if that removes a module
PROGRAM = """\
list=${LIST:-LOADED} notes=${NOTES:-SET}
for word in $(tr '\\000' ' ' < /proc/$1/cmdline | cut -d' ' -f2-); do
    case $word in -*|*=*) continue ;; esac
    name=$(echo "$word" | tr - _)
    [ -d /sys/module/$name ] && continue
    echo "modprobe ${2:+$2 }$word" >> $notes
    [ -e $list ] || continue
    rest=$(grep -v "^$name " $list)
    {
        [ -z "$rest" ] || echo "$rest"
        [ "$2" ] || echo "$name 16384 0 - Live 0x0000000000000000"
    } > $list
done
""".replace("LOADED", _LOADED).replace("SET", _NOTES)
#: see kmod's libkmod-index.c: a number and a version, where its first node is
_MAGIC, _VERSION = 0xB007F457, 0x00020001
_HAS_PREFIX, _HAS_VALUES = 0x80000000, 0x40000000


def _index(key: str = "", value: str = "") -> bytes:
    """An index as depmod(8) writes it, of one word, or of none."""
    if not key:
        return struct.pack(">III", _MAGIC, _VERSION, 0)
    start = 12 | _HAS_PREFIX | _HAS_VALUES
    head = struct.pack(">III", _MAGIC, _VERSION, start)
    return head + key.encode() + b"\0" + struct.pack(">II", 1, 0) + value.encode() + b"\0"


def cover(root: str) -> None:
    """Have modprobe find that module in a machine whose image has none for this kernel.

    :param root: of the machine, whose ``/proc``, ``/run`` and ``/dev`` are mounted.
    :raises OSError: the kernel refused, named in the message.
    """
    library = f"{root}/usr/lib" if os.path.islink(f"{root}/lib") else f"{root}/lib"
    target = f"{library}/modules/{os.uname().release}"
    if os.path.exists(f"{target}/modules.dep.bin"):
        return
    os.makedirs(target, exist_ok=True)
    os.mkdir(root + _FOLDER)
    for name in ("dep", "symbols", "builtin", "builtin.alias"):
        _write(f"{root}{_FOLDER}/modules.{name}.bin", _index())
    _write(f"{root}{_FOLDER}/modules.alias.bin", _index("*", _MODULE))
    sys_.mount(root + _FOLDER, target, None, sys_.MS_BIND)
    _write(root + _PROGRAM, PROGRAM.encode())
    os.makedirs(root + os.path.dirname(_CONFIGURATION))
    run = f"sh {_PROGRAM} $PPID"
    lines = f"install {_MODULE} {run}\nremove {_MODULE} {run} -r\n"
    _write(root + _CONFIGURATION, lines.encode())
    try:
        with open(root + _LIST, "rb") as file:
            _write(root + _LOADED, file.read())
    except FileNotFoundError:
        return  # a kernel that has no modules, and no list of them
    sys_.mount(root + _LOADED, root + _LIST, None, sys_.MS_BIND)


def _write(path: str, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)


def changed() -> list[str]:
    """What the machine that the caller is in has loaded and removed without effect: commands."""
    try:
        text = plain_file.read(_NOTES).decode(errors="replace")
    except OSError:
        return []
    return list(dict.fromkeys(text.splitlines()))
