"""What Ansible is told about a layout: groups, variables, and how machines are reached."""

from __future__ import annotations

import difflib
import fnmatch
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_carthage.errors import AnsibleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pytest_carthage.planning.plan import Plan, PlannedMachine

__all__ = ["by_ansibles_names", "check_pattern", "inventory", "set_interpreters"]

#: groups that Ansible has by itself
_BUILT_IN = ("all", "ungrouped")
_THIS_COMPUTER = ("localhost", "127.0.0.1")


def _address(machine: PlannedMachine) -> str:
    for link in machine.links:
        if link.address is not None:
            return str(link.address.ip)
    return machine.name


def _names(machine: PlannedMachine) -> list[str]:
    addresses = [str(link.address.ip) for link in machine.links if link.address is not None]
    return [machine.name, machine.hostname, machine.inventory_hostname, *addresses]


def _host(machine: PlannedMachine) -> dict[str, Any]:
    variables: dict[str, Any] = {
        "ansible_host": _address(machine),
        "ansible_connection": "carthage",
        "ansible_carthage_machine": machine.name,
    }
    if machine.traits.root in ("host", "existing"):
        # the home of root is the host's, /tmp is the machine's own; in the home of a host that
        # exists a folder would stay, where nobody has asked for one
        variables["ansible_remote_tmp"] = "/tmp"
        variables["ansible_async_dir"] = "/tmp/.ansible_async"
    variables |= machine.variables
    # repeated by the variables plugin, above what host_vars say
    variables["carthage_layout_variables"] = sorted(variables)
    return variables


def inventory(
    plan: Plan,
    *,
    socket: Path,
    interpreters: Mapping[str, str] | None,
    patterns: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Ansible's inventory of a plan, for the inventory plugin ``carthage_inventory``.

    The names of hosts are those that Ansible knows machines by.

    :param interpreters: machine name to the Python that Ansible's modules run with; what is
        not in it is left to Ansible's discovery. It is a default: a tree's own
        ``ansible_python_interpreter`` wins. None: the tree's configuration says it.
    :param patterns: argument to pattern; what they name must be in the inventory, in the end.
    """
    hosts = {machine.inventory_hostname: _host(machine) for machine in plan.machines.values()}
    groups: dict[str, list[str]] = {}
    for machine in plan.machines.values():
        for group in machine.groups:
            if group not in _BUILT_IN:
                groups.setdefault(group, []).append(machine.inventory_hostname)
    variables = {
        "ansible_carthage_socket": str(socket),
        # plays may delegate to what is no host of the inventory, but stands for one
        "ansible_carthage_names": {
            other: name for name, machine in plan.machines.items() for other in _names(machine)
        },
        "carthage_layout": plan.layout,
    }
    record: dict[str, Any] = {
        "hosts": hosts,
        "groups": groups,
        "variables": variables,
        "defaults": {},
        "named": {argument: _named(pattern) for argument, pattern in patterns.items()},
    }
    if interpreters is not None:
        set_interpreters(record, interpreters)
    return record


def set_interpreters(record: dict[str, Any], interpreters: Mapping[str, str]) -> None:
    """Have an inventory say which Python modules run with, see :func:`inventory`."""
    paths = list(interpreters.values())
    usual = max(sorted(set(paths)), key=paths.count) if paths else "auto_silent"
    record["defaults"]["ansible_python_interpreter"] = usual
    for host in record["hosts"].values():
        own = interpreters.get(host["ansible_carthage_machine"], "auto_silent")
        if own != usual:
            host.setdefault("ansible_python_interpreter", own)


def check_pattern(plan: Plan, argument: str, pattern: str) -> None:
    """Refuse a pattern that names something that the layout does not have.

    Ansible would only warn about the unknown part, and run the rest.

    :param argument: what the pattern was given for, as in ``limit``.
    :raises AnsibleError: with the names that there are.
    """
    groups = {group for machine in plan.machines.values() for group in machine.groups}
    known = {machine.inventory_hostname for machine in plan.machines.values()}
    names = {*plan.machines, *known, *groups, *_BUILT_IN, *_THIS_COMPUTER}
    for part in _parts(pattern):
        name = part.strip().lstrip("!&")
        if not name or name[0] in "~@":
            continue  # a regular expression, a file: for Ansible to understand
        either = (name, re.sub(r"\[[^\]]*\]$", "", name))
        if not any(fnmatch.fnmatchcase(full, pattern) for full in names for pattern in either):
            near = difflib.get_close_matches(name, names, n=3)
            meant = f", did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise AnsibleError(
                f"{argument} {pattern!r}: {name!r} is neither a machine nor a group of layout "
                f"{plan.layout!r}{meant}; machines: {_listed(plan.machines)}; "
                f"groups: {_listed(groups)}"
            )


def _named(pattern: str) -> list[str]:
    """What a pattern names in full."""
    names = (part.strip().lstrip("!&") for part in _parts(pattern))
    return [name for name in names if re.fullmatch(r"[\w.-]+", name)]


def by_ansibles_names(plan: Plan, pattern: str) -> str:
    """A pattern in which machines have the names that Ansible knows them by."""
    renamed = {
        name: machine.inventory_hostname
        for name, machine in plan.machines.items()
        if machine.inventory_hostname != name
    }
    if not any(name in pattern for name in renamed):
        return pattern
    parts = []
    for part in _parts(pattern):
        name = part.strip().lstrip("!&")
        parts.append(part.replace(name, renamed.get(name, name)) if name else part)
    return ",".join(parts)


def _parts(pattern: str) -> list[str]:
    """The parts of a pattern, as in Ansible: commas, or else colons that are not within a range."""
    return pattern.split(",") if "," in pattern else re.split(r":(?![^\[]*\])", pattern)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
