"""The layout has the last word on how its machines are reached.

A production tree may say ``ansible_connection: ssh`` or ``ansible_host: 203.0.113.7`` in its own
``host_vars``; these would win over an inventory file. As a variables plugin that runs after
Ansible's own, this one repeats what the layout's inventory says about a machine. A host that is no
machine of the layout gets the layout's connection too, which refuses: a play that is tested
never reaches out to the real thing, unless the host has an ``ansible_connection`` of its own.

As it is loaded before any task, it has ``synchronize`` go the layout's way, too.
"""

from __future__ import annotations

import sys
from typing import Any

from ansible.plugins.loader import action_loader, connection_loader
from ansible.plugins.vars import BaseVarsPlugin

DOCUMENTATION = """
name: carthage_layout
short_description: variables of a layout's machines, above all other variables of hosts
description:
  - Repeats the host variables of the generated inventory after host_vars were read.
author: pytest-carthage
options: {}
"""


_connection = sys.modules[connection_loader.get("carthage", class_only=True).__module__]
_connection.package("work.ansible.synchronize").install(action_loader)


class VarsModule(BaseVarsPlugin):  # type: ignore[misc]
    """Repeats the inventory's variables of each machine."""

    REQUIRES_ENABLED = True
    is_stateless = True

    def get_vars(self, loader: Any, path: str, entities: Any, cache: bool = True) -> dict[str, Any]:
        """Variables for hosts; none for groups."""
        super().get_vars(loader, path, entities)
        variables: dict[str, Any] = {}
        for entity in entities if isinstance(entities, list) else [entities]:
            if not hasattr(entity, "implicit"):
                continue  # a group
            names = entity.vars.get("carthage_layout_variables")
            if names is not None:
                variables |= {name: entity.vars[name] for name in names}
            elif not entity.implicit and "ansible_connection" not in entity.vars:
                variables["ansible_connection"] = "carthage"
        return variables
