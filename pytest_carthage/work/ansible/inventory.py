"""What Ansible is told about a layout: groups, variables, and how machines are reached."""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING, Any

from pytest_carthage.errors import AnsibleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pytest_carthage.planning.plan import Plan, PlannedMachine

__all__ = ["check_limit", "inventory"]

#: groups that Ansible has by itself
_BUILT_IN = ("all", "ungrouped")


def _address(machine: PlannedMachine) -> str:
    for link in machine.links:
        if link.address is not None:
            return str(link.address.ip)
    return machine.name


def _names(machine: PlannedMachine) -> list[str]:
    addresses = [str(link.address.ip) for link in machine.links if link.address is not None]
    return [machine.hostname, *addresses]


def _host(machine: PlannedMachine) -> dict[str, Any]:
    variables: dict[str, Any] = {
        "ansible_host": _address(machine),
        "ansible_connection": "carthage",
        "ansible_carthage_machine": machine.name,
    }
    if machine.traits.root == "host":
        # the home of root is the host's, /tmp is the machine's own
        variables["ansible_remote_tmp"] = "/tmp"
        variables["ansible_async_dir"] = "/tmp/.ansible_async"
    variables |= machine.variables
    # repeated by the variables plugin, above what host_vars say
    variables["carthage_layout_variables"] = sorted(variables)
    return variables


def inventory(plan: Plan, *, socket: Path, interpreters: Mapping[str, str]) -> dict[str, Any]:
    """Ansible's inventory of a plan, for its ``yaml`` inventory plugin.

    :param interpreters: machine name to the Python that Ansible's modules run with; what is
        not in it is left to Ansible's discovery. It is a default: a tree's own
        ``ansible_python_interpreter`` wins.
    """
    hosts = {name: _host(machine) for name, machine in plan.machines.items()}
    groups: dict[str, dict[str, Any]] = {}
    for name, machine in plan.machines.items():
        for group in machine.groups:
            if group not in _BUILT_IN:
                groups.setdefault(group, {"hosts": {}})["hosts"][name] = {}
    everyone: dict[str, Any] = {
        "ansible_carthage_socket": str(socket),
        # plays may delegate to what is no host of the inventory, but stands for one
        "ansible_carthage_names": {
            other: name for name, machine in plan.machines.items() for other in _names(machine)
        },
        "ansible_python_interpreter": "auto_silent",
    }
    if interpreters:
        paths = list(interpreters.values())
        usual = max(sorted(set(paths)), key=paths.count)
        everyone["ansible_python_interpreter"] = usual
        for name, host in hosts.items():
            own = interpreters.get(name, "auto_silent")
            if own != usual:
                host.setdefault("ansible_python_interpreter", own)
    everyone["carthage_layout"] = plan.layout
    return {"all": {"hosts": hosts, "children": groups, "vars": everyone}}


def check_limit(plan: Plan, limit: str) -> None:
    """Refuse a limit that names something that the layout does not have.

    Ansible would only warn about the unknown part, and run the rest.

    :raises AnsibleError: with the names that there are.
    """
    groups = {group for machine in plan.machines.values() for group in machine.groups}
    names = {*plan.machines, *groups, *_BUILT_IN, "localhost", "127.0.0.1"}
    # as in Ansible: commas, or else colons that are not within a range
    parts = limit.split(",") if "," in limit else re.split(r":(?![^\[]*\])", limit)
    for part in parts:
        name = part.strip().lstrip("!&")
        if not name or name[0] in "~@":
            continue  # a regular expression, a file: for Ansible to understand
        either = (name, re.sub(r"\[[^\]]*\]$", "", name))
        if not any(fnmatch.fnmatchcase(full, pattern) for full in names for pattern in either):
            raise AnsibleError(
                f"limit {limit!r}: {name!r} is neither a machine nor a group of layout "
                f"{plan.layout!r}; machines: {_listed(plan.machines)}; groups: {_listed(groups)}"
            )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
