#!/usr/bin/env python3
"""A dynamic inventory that opens sockets, and knows the real production."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "module_utils"))
look = importlib.import_module("look").look
world, port = os.environ["WAYS_WORLD"], os.environ["WAYS_PORT"]
seen = {way: look(to) for way, to in json.loads(os.environ["WAYS_OF_INVENTORY"]).items()}
prod = {"ansible_connection": "ssh", "ansible_host": world, "ansible_port": port}
print(
    json.dumps(
        {
            "_meta": {"hostvars": {"web": {"inventory_saw": seen}, "prod1": prod}},
            "all": {"hosts": ["web", "prod1"]},
        }
    )
)
