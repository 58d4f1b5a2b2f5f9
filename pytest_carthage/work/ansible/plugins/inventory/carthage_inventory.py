"""The machines of a layout as Ansible's hosts: the last source of every inventory.

It comes after the tree's own sources: what they say of groups and variables of a host counts, the
layout wins where both speak, and hosts that no machine stands for are taken out again. Those are
told to pytest-carthage through the descriptor in ``CARTHAGE_ANSIBLE_EVENTS``.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import sys
from pathlib import Path
from typing import Any

from ansible.constants import LOCALHOST
from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin

DOCUMENTATION = """
name: carthage_inventory
short_description: the machines of a live pytest-carthage layout
description:
  - Reads the file that pytest-carthage has made of a layout, and takes out all other hosts.
author: pytest-carthage
options: {}
"""

#: Ansible's own exit status for options that are wrong
_WRONG = 5
_ENDING = ".carthage.json"


class InventoryModule(BaseInventoryPlugin):  # type: ignore[misc]
    """Adds machines, their groups and variables; removes the hosts that are none."""

    NAME = "carthage_inventory"
    trusted_by_default = True

    def verify_file(self, path: str) -> bool:
        """Whether a source is one of ours."""
        return path.endswith(_ENDING)

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Take in a file of ours.

        :raises AnsibleParserError: it is none.
        """
        super().parse(inventory, loader, path, cache)
        try:
            layout = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise AnsibleParserError(f"{path}: {error}") from error
        absent = [name for name in inventory.hosts if name not in layout["hosts"]]
        for name in absent:
            host = inventory.hosts[name]
            if name not in LOCALHOST:
                inventory.remove_host(host)
        for name, variables in layout["hosts"].items():
            inventory.add_host(name, group="all")
            for variable, value in variables.items():
                inventory.set_variable(name, variable, value)
        for group, names in layout["groups"].items():
            inventory.add_group(group)
            for name in names:
                inventory.add_child(group, name)
        for variable, value in layout["variables"].items():
            inventory.set_variable("all", variable, value)
        for variable, value in layout["defaults"].items():
            if variable not in inventory.groups["all"].vars:
                inventory.set_variable("all", variable, value)
        for argument, names in layout["named"].items():
            for name in names:
                _check(argument, name, inventory, layout)
        absent = sorted(name for name in absent if name not in LOCALHOST)
        if absent:
            self.display.warning(f"no machines of the layout, left out: {', '.join(absent)}")
            _tell(absent)


def _check(argument: str, name: str, inventory: Any, layout: Any) -> None:
    """End the program when an argument names what there is not: Ansible would run the rest."""
    if name in inventory.hosts or name in inventory.groups or name in LOCALHOST:
        return
    near = difflib.get_close_matches(name, [*layout["hosts"], *inventory.groups], n=3)
    meant = f", did you mean {' or '.join(map(repr, near))}?" if near else ""
    sys.stderr.write(
        f"[ERROR]: {argument}: {name!r} is neither a machine of the layout nor a group of the "
        f"tree's inventory{meant}; machines: {', '.join(layout['hosts'])}; "
        f"groups: {', '.join(sorted(inventory.groups))}\n"
    )
    sys.exit(_WRONG)


def _tell(absent: list[str]) -> None:
    number = os.environ.get("CARTHAGE_ANSIBLE_EVENTS", "")
    if number.isdecimal():
        line = json.dumps({"event": "absent", "hosts": absent}) + "\n"
        with contextlib.suppress(OSError):
            os.write(int(number), line.encode("utf-8", "surrogateescape"))
