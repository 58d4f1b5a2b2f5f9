"""What ends commands of a host when nobody waits for them any more, the connection lost included.

sshd(8) leaves a command without a terminal running when its channel closes. So each one has a
variable that marks it, and whatever it starts has it, too; a shell that reads from one kept channel
signals those that are marked, and ends the rest when there is nothing more to read.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

__all__ = ["MARK", "WATCH", "marked"]

#: variable of what was started for somebody
MARK = "CARTHAGE_JOB"

#: reads lines: ``+ TOKEN``, ``- TOKEN``, or a signal's name and a token
WATCH = r"""
trap '' HUP INT TERM PIPE
jobs=
signal() {
    for file in $(grep -lsE "CARTHAGE_JOB=($2)" /proc/[0-9]*/environ); do
        pid=${file#/proc/}; pid=${pid%/environ}
        [ "$pid" = $$ ] || kill -s "$1" "$pid" 2> /dev/null
    done
}
while read -r verb job; do
    case $verb in
        +) jobs="$jobs $job" ;;
        -) kept=; for each in $jobs; do [ "$each" = "$job" ] || kept="$kept $each"; done
           jobs=$kept ;;
        *) signal "$verb" "$job" ;;
    esac
done
[ -n "$jobs" ] || exit 0
all=$(echo $jobs | tr ' ' '|')
for turn in 1 2 3; do signal KILL "$all"; sleep 1; done
"""


def marked(prefix: Sequence[str], token: str, argv: Sequence[str]) -> str:
    """A command as a user's shell takes it, marked.

    :param prefix: what makes another user of it.
    """
    return shlex.join([*prefix, "/usr/bin/env", f"{MARK}={token}", *argv])
