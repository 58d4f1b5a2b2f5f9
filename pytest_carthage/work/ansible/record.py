"""Variables as Ansible reads them: JSON in a file for the owner's eyes only."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from pytest_carthage.errors import AnsibleError

__all__ = ["to_json", "write_record"]


def write_record(file: Path, value: object, subject: str) -> None:
    """Write for the owner's eyes only: variables hold passwords.

    :raises AnsibleError: JSON cannot hold the value.
    """
    text = to_json(value, subject, indent=2)
    with open(file, "w", encoding="utf-8", opener=lambda p, f: os.open(p, f, 0o600)) as out:
        out.write(text)


def to_json(value: object, subject: str, *, indent: int | None = None) -> str:
    """A value as Ansible reads it.

    :raises AnsibleError: JSON cannot hold the value.
    """
    try:
        return json.dumps(value, indent=indent, default=_plain)
    except (TypeError, ValueError) as error:
        raise AnsibleError(f"{subject}: Ansible cannot be given this: {error}") from error


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if type(value).__module__ == "ipaddress":
        return str(value)
    raise TypeError(f"{value!r} is a {type(value).__name__}, which JSON cannot hold")
