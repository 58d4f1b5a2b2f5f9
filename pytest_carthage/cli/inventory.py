"""``pytest-carthage inventory``: machines as hosts of Ansible."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.cli import ssh_config, target
from pytest_carthage.cli.output import write_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_carthage.state.listing import Listed

#: variables by which our own connection plugin finds a machine
_OURS = (
    "ansible_connection",
    "ansible_carthage_machine",
    "ansible_carthage_socket",
    "ansible_carthage_names",
    "carthage_layout_variables",
)


def add(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "inventory",
        help="write an inventory for Ansible",
        description="Write an inventory of a live environment for an Ansible of your own: its "
        "machines with their groups and variables, reached over ssh. Plays of such an Ansible are "
        "not kept within the layout; `pytest-carthage ansible` does that.",
    )
    target.add_environment(parser, "the only one")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write it there")
    parser.add_argument(
        "--list", action="store_true", help="in the form of an inventory script (with --list)"
    )
    parser.add_argument(
        "--connection",
        choices=("ssh", "carthage"),
        default="ssh",
        help="carthage: by our own plugin, which Ansible has to find (ANSIBLE_CONNECTION_PLUGINS)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write it."""
    from pytest_carthage.live.openings.handover import take_up
    from pytest_carthage.work.ansible.inventory import set_interpreters
    from pytest_carthage.work.ansible.running import find_interpreters

    environment = target.environment(arguments.environment)
    handover = take_up(environment.name, environment.folder)
    known = dict(handover.inventory)
    set_interpreters(known, find_interpreters(environment.socket, environment.machines))
    variables, hosts = {**known["defaults"], **known["variables"]}, known["hosts"]
    if arguments.connection == "ssh":
        variables, hosts = _over_ssh(environment, variables, hosts)
    record = (_script if arguments.list else _static)(variables, hosts, known["groups"])
    write_text(f"{json.dumps(record, indent=2)}\n", arguments.output)
    return 0


def _over_ssh(
    environment: Listed, variables: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Variables of all hosts and of each; the configuration of ssh that they name is written."""
    config = environment.folder / "ssh/config"
    text = ssh_config.configuration([environment])
    config.write_text(text)
    common = {
        "ansible_connection": "ssh",
        "ansible_user": "root",
        "ansible_ssh_common_args": f"-F {shlex.quote(str(config))}",
        **_without_ours(variables),
    }
    reached = {
        host: {
            **_without_ours(own),
            "ansible_host": f"{environment.name}.{own['ansible_carthage_machine']}",
        }
        for host, own in hosts.items()
    }
    return common, reached


def _without_ours(variables: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in variables.items() if name not in _OURS}


def _static(
    variables: dict[str, Any], hosts: dict[str, Any], groups: dict[str, list[str]]
) -> dict[str, Any]:
    """As Ansible's plugin ``yaml`` reads it, which reads JSON."""
    children = {
        group: {"hosts": {name: {} for name in names}}  # type: ignore[var-annotated]
        for group, names in groups.items()
    }
    return {"all": {"hosts": hosts, "vars": variables, "children": children}}


def _script(
    variables: dict[str, Any], hosts: dict[str, Any], groups: dict[str, list[str]]
) -> dict[str, Any]:
    """As Ansible's plugin ``script`` reads it."""
    return {
        "_meta": {"hostvars": hosts},
        "all": {"hosts": list(hosts), "vars": variables, "children": list(groups)},
        **{group: {"hosts": names} for group, names in groups.items()},
    }
