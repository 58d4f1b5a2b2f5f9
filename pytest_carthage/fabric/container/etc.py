"""A machine's names in ordinary files of its own: written once, and its authors' from then on.

What its init is told besides is in ``/run``, which is new at each start.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from pytest_carthage.fabric import names


def write(*, hostname: str, hosts: str, resolv: str) -> None:
    """Write the files of the machine whose root the caller is in."""
    os.makedirs("/etc", exist_ok=True)
    for path, text in (
        ("/etc/hostname", f"{hostname}\n"),
        ("/etc/hosts", names.initial(hosts)),
        ("/etc/resolv.conf", resolv),
    ):
        _write_new(path, text)


def write_for_init(files: Mapping[str, str]) -> None:
    """Write what the init of the machine whose root the caller is in finds when it begins."""
    for path, text in files.items():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _write_new(path, text)


def _write_new(path: str, text: str) -> None:
    """Write a file in place of whatever is there, a link to elsewhere included."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    with open(path, "w") as file:
        file.write(text)
