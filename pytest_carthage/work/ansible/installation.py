"""Where ``ansible-playbook`` is, the tree's ``ansible.cfg``, and the environment to run in."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.errors import HostError, Problem
from pytest_carthage.work.ansible.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["collections", "find_config", "find_program", "make_env", "program_version"]

_PLUGINS = Path(__file__).resolve().parent / "plugins"
#: bytes that the path of a socket may have, see unix(7)
_LONGEST_SOCKET = 107
#: what follows the folder of a connection that ssh keeps: Ansible's hash, and what ssh appends
_CONTROL_NAME = 11 + 17
_MOST_FORKS = 16
#: those that Ansible reads inventories with by itself
_INVENTORY_PLUGINS = "host_list,script,auto,yaml,ini,toml"


def find_program(name: str = "ansible-playbook") -> str:
    """A program of Ansible: the one beside our own interpreter, or else on the path.

    :raises HostError: there is none.
    """
    beside = Path(sys.executable).parent / name
    if os.access(beside, os.X_OK):
        return str(beside)
    on_path = shutil.which(name)
    if on_path is None:
        raise HostError(
            [
                Problem(
                    who="ansible",
                    what=f"no {name} in {beside.parent} or on PATH",
                    remedy="pip install 'pytest-carthage[ansible]'",
                    packages=("ansible-core",),
                )
            ]
        )
    return on_path


@functools.cache
def program_version() -> str:
    """The version of ansible-core; empty where there is none."""
    with suppress(HostError):
        program = Path(find_program())
        if program.parent == Path(sys.executable).parent:
            with suppress(importlib.metadata.PackageNotFoundError):
                return importlib.metadata.version("ansible-core")
        done = subprocess.run(
            [str(program), "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if match := re.search(r"core ([^\]\s]+)", done.stdout):
            return match[1]
    return ""


def collections(folder: Path) -> dict[str, str]:
    """Name to version of the collections that Ansible finds in a folder; its own are left out."""
    try:
        galaxy = Path(find_program()).with_name("ansible-galaxy")
    except HostError:
        return {}
    with tempfile.TemporaryDirectory(prefix="carthage-") as work:
        done = subprocess.run(
            [str(galaxy), "collection", "list", "--format", "json"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            env={**os.environ, "ANSIBLE_LOCAL_TEMP": work, "LC_ALL": "C.UTF-8"},
        )
    versions: dict[str, str] = {}
    # where there are none, older versions end with an error instead
    with suppress(ValueError, AttributeError, KeyError):
        # the first place that has one is where it is taken from
        for place, listed in reversed(json.loads(done.stdout or "{}").items()):
            if "_internal" not in Path(place).parts:
                versions |= {name: row["version"] for name, row in listed.items()}
    return versions


def find_config(playbook: Path) -> tuple[Path | None, Path]:
    """The tree's ``ansible.cfg``, and the folder to run in.

    People run production playbooks in the folder that holds ``ansible.cfg``, which may be above
    the playbook's. As Ansible does, a folder that everybody can write is passed over.
    """
    if given := os.environ.get("ANSIBLE_CONFIG"):
        return Path(given).expanduser().absolute(), playbook.parent
    for folder in playbook.parents:
        config = folder / "ansible.cfg"
        if config.is_file() and not folder.stat().st_mode & stat.S_IWOTH:
            return config, folder
        if (folder / ".git").exists() or folder == Path.home():
            break
    return None, playbook.parent


def make_env(
    config: Path | None, work: Path, machines: int, given: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment of Ansible's programs.

    :param given: variables above those of this process.
    """
    env = {**os.environ, **(given or {})}
    if config is not None:
        env["ANSIBLE_CONFIG"] = str(config)
    settings = Settings(config, env)
    env.setdefault("CARTHAGE_ANSIBLE_COMPILED", str(work / "compiled"))
    temporary = work / "tmp"
    temporary.mkdir(exist_ok=True)
    env["ANSIBLE_LOCAL_TEMP"] = str(temporary)
    home = Path(env["HOME"]) if env.get("HOME") else None
    if home is None or not home.is_dir():
        env["HOME"] = str(work)
        home = work
    if "ANSIBLE_HOME" not in env and not (home / ".ansible").is_dir():
        # nothing to read there; and Ansible would make it
        env["ANSIBLE_HOME"] = str(work / "home")
    own_home = env.get("ANSIBLE_HOME", str(home / ".ansible"))
    for kind in ("callback", "connection", "inventory", "vars"):
        name = f"ANSIBLE_{kind.upper()}_PLUGINS"
        paths = settings.paths(name, f"{kind}_plugins")
        if paths is None:
            paths = f"{own_home}/plugins/{kind}:/usr/share/ansible/plugins/{kind}"
        env[name] = f"{paths}:{_PLUGINS / kind}"
    enabled = settings.get("ANSIBLE_VARS_ENABLED", "vars_plugins_enabled") or "host_group_vars"
    # the last one wins
    env["ANSIBLE_VARS_ENABLED"] = f"{enabled},carthage_layout"
    sources = settings.get("ANSIBLE_INVENTORY_ENABLED", "enable_plugins", "inventory")
    env["ANSIBLE_INVENTORY_ENABLED"] = f"carthage_inventory,{sources or _INVENTORY_PLUGINS}"
    if settings.get("ANSIBLE_FORKS", "forks") is None:
        env["ANSIBLE_FORKS"] = str(min(max(machines, 5), _MOST_FORKS))
    # connections that ssh keeps are the layout's own: an address is another host's elsewhere
    shared = work / "cp"
    env["ANSIBLE_SSH_CONTROL_PATH_DIR"] = str(shared)
    fits = len(os.fsencode(shared)) + _CONTROL_NAME <= _LONGEST_SOCKET
    env["ANSIBLE_SSH_CONTROL_PATH"] = "" if fits else "none"
    return env | {
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_FORCE_COLOR": "0",
        "ANSIBLE_RETRY_FILES_ENABLED": "0",
        "ANSIBLE_HOST_KEY_CHECKING": "0",
        # nobody is there to answer
        "ANSIBLE_ASK_PASS": "0",
        "ANSIBLE_BECOME_ASK_PASS": "0",
        # Ansible insists on UTF-8, and this one exists everywhere
        "LC_ALL": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
    }
