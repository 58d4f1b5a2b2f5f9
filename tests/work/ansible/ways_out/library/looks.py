"""A module that opens a socket where it runs."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.look import look

if __name__ == "__main__":
    module = AnsibleModule({"to": {"type": "str"}})
    module.exit_json(content=look(module.params["to"]))
