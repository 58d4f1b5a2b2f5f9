"""What names of packages, interfaces and Ansible groups may be."""

from __future__ import annotations

import re

__all__ = ["interface_mistake", "is_group", "is_package"]

# Debian policy 5.6.1, then apt's own suffixes for an architecture and a version.
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9-]+)?(=[A-Za-z0-9.+~:-]+)?", re.ASCII)
# what Ansible takes for a group without a warning: a name that Python could have
_GROUP = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_LONGEST_INTERFACE_BYTES = 15  # IFNAMSIZ - 1, linux/if.h
_RESERVED_INTERFACES = {"lo", "all", "default", ".", ".."}  # see Documentation/networking/ip-sysctl


def is_package(name: object) -> bool:
    """Whether apt can be asked for it: a name, perhaps with ``:architecture`` and ``=version``."""
    return isinstance(name, str) and _PACKAGE.fullmatch(name) is not None


def is_group(name: object) -> bool:
    """Whether Ansible takes it for the name of a group."""
    return isinstance(name, str) and _GROUP.fullmatch(name) is not None


def interface_mistake(name: object) -> str | None:
    """What is wrong with the name of an interface; None: nothing."""
    if not isinstance(name, str) or not name:
        return "is no name"
    if len(name.encode()) > _LONGEST_INTERFACE_BYTES:
        return (
            f"has {len(name.encode())} bytes, the kernel takes at most {_LONGEST_INTERFACE_BYTES}"
        )
    if name in _RESERVED_INTERFACES or not re.fullmatch(r"[!-~]+", name) or set(name) & set("/:%"):
        return "is one that the kernel refuses or keeps for itself"
    return None
