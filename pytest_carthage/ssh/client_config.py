"""What ssh(1) is told of machines: an ssh_config(5)."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_carthage.channels.deputy import deputy_command
from pytest_carthage.ssh import knock
from pytest_carthage.ssh.keys import Keys

__all__ = ["Host", "client_config", "tell_how_to_start"]

_KNOCK = Path(knock.__file__).resolve()
_HEAD = """\
# Machines of pytest-carthage; written by `pytest-carthage ssh-config`, for `ssh -F` or Include.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A machine, by the names under which clients know it."""

    names: Sequence[str]
    machine: str
    keys: Keys


def client_config(hosts: Iterable[Host]) -> str:
    """The text of a configuration with these hosts."""
    return "\n".join([_HEAD.rstrip("\n"), *map(_block, hosts)])


def _block(host: Host) -> str:
    command = [sys.executable, "-I", "-S", str(_KNOCK), str(host.keys.folder), host.machine]
    settings = {
        "User": "root",
        "ProxyCommand": shlex.join(command).replace("%", "%%"),
        "IdentityFile": _path(host.keys.identity),
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "PreferredAuthentications": "publickey",
        "UserKnownHostsFile": _path(host.keys.known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "CheckHostIP": "no",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        # the quickest one: it never leaves this computer
        "Ciphers": "^aes128-gcm@openssh.com",
    }
    lines = [f"Host {' '.join(host.names)}", *(f"    {key} {settings[key]}" for key in settings)]
    return "".join(f"{line}\n" for line in lines)


def _path(path: Path) -> str:
    text = str(path).replace("%", "%%")
    return f'"{text}"' if " " in text else text


def tell_how_to_start(keys: Keys, *, environment: str, supervisor: Path) -> None:
    """Leave behind how who answers for an environment's machines is started.

    :param supervisor: socket of its run's supervisor.
    """
    start = {
        "argv": deputy_command("pytest_carthage.ssh.porter:serve", str(keys.folder)),
        "environment": environment,
        "supervisor": str(supervisor),
    }
    path = keys.folder / knock.START
    new = path.with_suffix(".new")
    new.write_text(json.dumps(start))
    new.replace(path)
