"""What a deputy has a machine's own shell do: POSIX sh with coreutils, and Python to connect.

Each script tells what is wrong by the name of an error (errno(3)) as its last line on standard
error, and fails.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

_NUMBERS = {name: number for number, name in errno.errorcode.items()}
_WORDS = {os.strerror(number): number for number in errno.errorcode}

__all__ = [
    "CHMOD",
    "CHOWN",
    "CONNECT",
    "LINK",
    "LIST",
    "MKDIRS",
    "PROC",
    "READ",
    "RUN",
    "SETTLE",
    "STAT",
    "SYMLINK",
    "TOUCH",
    "USER",
    "WRITE",
    "check",
    "last_line",
    "number_of",
    "shell",
    "time_of",
]

#: $1: user, $2: working folder or nothing; then variables and the command
RUN = """\
user=$1 cwd=$2; shift 2
home=$(eval echo "~$user" 2>/dev/null); [ -d "$home" ] || home=/
cd -- "${cwd:-$home}" || exit 126
set -- env "HOME=$home" "USER=$user" "LOGNAME=$user" "$@"
[ "$user" = "$(id -un)" ] || [ "$user" = "$(id -u)" ] ||
    set -- setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups "$@"
exec "$@"
"""
USER = 'id -u -- "$1" > /dev/null 2>&1'

_THERE = """\
umask 022
export LC_ALL=C
fail() { echo "$1" >&2; exit 1; }
there() {
    [ -e "$1" ] && return
    up=${1%/*}; [ -z "$up" ] || [ -d "$up" ] || { [ -e "$up" ] && fail ENOTDIR; }
    fail ENOENT
}
"""
STAT = _THERE + 'there "$1"; exec stat -L -c "%f %u %g %s %.9Y" -- "$1"'
LIST = (
    _THERE
    + """\
there "$1"; [ -d "$1" ] || fail ENOTDIR
exec find "$1" -mindepth 1 -maxdepth 1 -printf '%f\\0'
"""
)
READ = (
    _THERE
    + """\
there "$1"; [ ! -d "$1" ] || fail EISDIR; [ -f "$1" ] || fail EINVAL
[ -r "$1" ] || fail EACCES
exec cat -- "$1"
"""
)
#: $2: old, new or any, $3: permissions or nothing, $4: owner or nothing, $5: keep or cut;
#: what is in the file stays until it is written
TOUCH = (
    _THERE
    + """\
[ ! -d "$1" ] || fail EISDIR
case $2 in
    new) [ ! -e "$1" ] || fail EEXIST ;;
    old) there "$1" ;;
esac
up=${1%/*}; [ -z "$up" ] || there "$up/."
[ -e "$1" ] || : > "$1" || exit 1
[ -w "$1" ] || fail EACCES
[ -z "$4" ] || chown "$4:" -- "$1" || exit 1
[ -z "$3" ] || chmod "$3" -- "$1" || exit 1
[ "$5" = cut ] || exec cat -- "$1"
"""
)
# what is all zero is a hole, where dd(1) can
WRITE = """\
export LC_ALL=C
dd if=/dev/null of=/dev/null conv=sparse status=none 2> /dev/null || exec cat > "$1"
exec dd of="$1" ibs=65536 obs=65536 conv=sparse status=none
"""
MKDIRS = (
    _THERE
    + """\
[ ! -d "$1" ] || exit 0
[ ! -e "$1" ] || fail EEXIST
mkdir -p -- "$1" && { [ -z "$3" ] || chown "$3:" -- "$1"; } && chmod "$2" -- "$1" && echo made
"""
)
#: $2: target, $3: owner or nothing, $4: time for touch(1) or nothing
SYMLINK = (
    _THERE
    + """\
[ -L "$1" ] || [ ! -e "$1" ] || fail EEXIST
ln -sfn -- "$2" "$1" || exit 1
[ -z "$3" ] || chown -h "$3:" -- "$1" || exit 1
[ -z "$4" ] || exec touch -h -d "$4" -- "$1"
"""
)
LINK = _THERE + 'there "$2"; exec ln -fnP -- "$2" "$1"'
#: $2: permissions or nothing, $3: time for touch(1) or nothing; then names and values (hexadecimal)
#: of attributes
SETTLE = (
    _THERE
    + """\
path=$1 mode=$2 when=$3; shift 3; there "$path"
[ -z "$mode" ] || chmod "$mode" -- "$path" || exit 1
[ $# -eq 0 ] || command -v setfattr > /dev/null || fail ENOTSUP
while [ $# -gt 1 ]; do
    setfattr -n "$1" -v "0x$2" -- "$path" || exit 1
    shift 2
done
[ -z "$when" ] || exec touch -d "$when" -- "$path"
"""
)
CHMOD = _THERE + 'there "$1"; exec chmod "$2" -- "$1"'
CHOWN = _THERE + 'there "$1"; exec chown "$2:" -- "$1"'
PROC = 'exec cat "/proc/net/$1"'

#: address, port, seconds; one byte when it is connected, then it relays until both ways are closed
CONNECT = """\
import errno, os, socket, sys, threading
try:
    far = socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3]))
except OSError as error:
    sys.exit(errno.errorcode.get(error.errno, "ETIMEDOUT"))
far.settimeout(None)
os.write(1, b"+")
def back():
    while data := far.recv(65536):
        while data:
            data = data[os.write(1, data):]
    try:
        socket.socket(fileno=1).shutdown(socket.SHUT_WR)  # it is standard input, too
    except OSError:
        os.close(1)
threading.Thread(target=back).start()
try:
    while data := os.read(0, 65536):
        far.sendall(data)
    far.shutdown(socket.SHUT_WR)
except OSError:
    pass
"""


def shell(script: str, *words: str) -> Sequence[str]:
    """The command that runs a script."""
    return ["/bin/sh", "-c", script, "sh", *words]


def time_of(when_ns: int | None) -> str:
    """A time as touch(1) takes it; nothing for None."""
    if when_ns is None:
        return ""
    seconds, rest = divmod(when_ns, 10**9)
    return f"@{seconds}.{rest:09}"


def last_line(err: bytes) -> str:
    """The last that was printed on standard error."""
    lines = err.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def check(status: int, err: bytes, path: str) -> None:
    """Raise what a script has told.

    :raises OSError: it failed; with its number, if it told one, and else with EIO and its words.
    """
    if status == 0:
        return
    said = last_line(err)
    number = number_of(said)
    if number is None:
        raise OSError(errno.EIO, said or f"it ended with status {status}", path)
    raise OSError(number, os.strerror(number), path)


def number_of(said: str) -> int | None:
    """The number of an error by its name, or by the words with which programs end a line."""
    word = said.rpartition(": ")[2]
    return _NUMBERS.get(word) or _WORDS.get(word)
