"""Facts that are kept from one run of Ansible to the next, as long as the machines are the same.

Not by default: Ansible gathers facts in each play, and so a play sees what the play before it has
changed, be it a host name, a mount or a package; and each has a time, an uptime and free memory of
its own. Nothing that is kept can be the same as that.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from pytest_carthage.fabric.wire import client

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_carthage.planning.plan import Plan

__all__ = ["keep"]

#: what is likely to differ when facts do
_LOOK = """
cd /
for file in /proc/sys/kernel/random/boot_id /proc/sys/kernel/hostname /proc/mounts /proc/net/route \
    /proc/net/fib_trie /proc/net/if_inet6 /proc/net/ipv6_route /etc/hostname /etc/hosts \
    /etc/os-release /etc/resolv.conf /etc/passwd /etc/group /etc/localtime; do
    echo "$file"
    cat "$file"
done 2>/dev/null
ls -lnR --full-time /etc/ansible/facts.d 2>/dev/null
true
"""
_LOOK_S = 10.0


def keep(work: Path, socket: Path, plan: Plan) -> dict[str, str]:
    """Environment variables by which Ansible takes facts from what earlier runs have gathered.

    Where any machine is not as it was when the run before began, all of it is forgotten.

    :param work: folder of Ansible in the environment's own.
    """
    folder, looks = work / "facts", work / "facts.json"
    now = {name: _look(socket, name) for name in plan.machines}
    before: object = None
    with suppress(FileNotFoundError):
        before = json.loads(looks.read_text())
    # of a machine that does not answer nothing is known
    if before != now or None in now.values():
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)
        looks.write_text(json.dumps(now))
    return {
        "ANSIBLE_GATHERING": "smart",
        "ANSIBLE_CACHE_PLUGIN": "jsonfile",
        "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(folder),
        "ANSIBLE_CACHE_PLUGIN_TIMEOUT": "0",
    }


def _look(socket: Path, machine: str) -> str | None:
    try:
        with client.connect(str(socket), machine) as agent:
            _, seen, _ = agent.run(["/bin/sh", "-c", _LOOK], timeout_s=_LOOK_S)
    except (OSError, client.Refused):
        return None
    return hashlib.sha256(seen).hexdigest()
