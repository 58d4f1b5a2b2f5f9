"""Variables of hosts, as Ansible can be given them."""

from __future__ import annotations

import keyword
import math
from collections.abc import Iterable, Mapping
from pathlib import PurePath

from pytest_carthage.model.mistakes.value import shown

__all__ = ["variable_mistake"]

# what Ansible sets by itself, whatever an inventory says; see "Special variables" in its reference
_MAGIC = {
    *("groups", "group_names", "hostvars", "inventory_dir", "inventory_file", "playbook_dir"),
    *("inventory_hostname", "inventory_hostname_short", "omit", "play_hosts", "role_name"),
    *("role_path", "role_names", "vars", "environment"),
}
_WORDS = ("true", "false", "none")


def variable_mistake(name: str, value: object) -> str | None:
    """What is wrong with a variable; None: nothing."""
    if not name.isascii() or not name.isidentifier():
        return "is not a name that Ansible takes: letters, digits and _"
    if keyword.iskeyword(name) or name in _WORDS:
        return "is a word of the language of templates"
    if name in _MAGIC:
        return "is set by Ansible itself, and what an inventory says has no effect"
    for part in _parts(value):
        if not _is_written(part):
            return f"has {shown(part)} ({type(part).__name__}), which Ansible cannot be given"
    return None


def _parts(value: object) -> Iterable[object]:
    """A value's values, and keys, that are no collections."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield key
            yield from _parts(one)
    elif isinstance(value, list | tuple | set | frozenset):
        for one in value:
            yield from _parts(one)
    else:
        yield value


def _is_written(value: object) -> bool:
    """Whether JSON has a form for it."""
    if isinstance(value, float):
        return math.isfinite(value)
    plain = isinstance(value, str | int | PurePath | None)
    return plain or type(value).__module__ == "ipaddress"
