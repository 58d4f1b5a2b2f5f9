"""Tells pytest-carthage all that a module returned, one JSON object per line.

The file to append to is in ``CARTHAGE_ANSIBLE_VALUES``; without it the callback is silent.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: carthage_values
type: notification
short_description: results of a module for pytest-carthage
description:
  - Appends one JSON object per host to the file in CARTHAGE_ANSIBLE_VALUES.
author: pytest-carthage
"""


def _for_the_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Writes what modules return, without what ``no_log`` hides."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "carthage_values"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        file = os.environ.get("CARTHAGE_ANSIBLE_VALUES", "")
        self._file = Path(file) if file else None

    def _write(self, result: Any) -> None:
        if self._file is None:
            return
        # ansible-core 2.19 renamed the attributes that had an underscore
        host = result.host if hasattr(result, "host") else result._host
        values = result.result if hasattr(result, "result") else result._result
        told = {name: value for name, value in values.items() if not name.startswith("_ansible_")}
        line = json.dumps({"host": host.get_name(), "values": told}, default=str)
        with open(self._file, "a", encoding="utf-8", opener=_for_the_owner) as file:
            file.write(f"{line}\n")

    def v2_runner_on_ok(self, result: Any) -> None:
        """Tell of a result."""
        self._write(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Tell of a failure."""
        self._write(result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Tell of a machine that does not answer."""
        self._write(result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        """Tell of a module that did not run."""
        self._write(result)
