"""What names of packages, interfaces, machines, and what is Ansible's, may be."""

from __future__ import annotations

import re

__all__ = [
    "group_mistake",
    "host_mistake",
    "interface_mistake",
    "inventory_mistake",
    "inventory_name",
    "is_package",
    "is_user",
    "member_mistake",
]

# Debian policy 5.6.1, then apt's own suffixes for an architecture and a version.
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9-]+)?(=[A-Za-z0-9.+~:-]+)?", re.ASCII)
# what Ansible takes for a group without a warning: a name that Python could have
_GROUP = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
# what Ansible's patterns, ssh's configuration and hosts(5) take as it stands
_INVENTORY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}", re.ASCII)
_MEMBER = re.compile(r"\w[\w.-]*")
_LONGEST_MEMBER_BYTES = 100  # it is a part of names of files
_INTERFACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*", re.ASCII)
# how inet_aton(3) and the URL standard know an address: by how it ends
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
# what systemd takes where it is not strict, see "User/Group Name Syntax" in its documentation
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,255}\$?", re.ASCII)
_HERE = ("localhost", "ip6-localhost", "ip6-loopback")
#: of Ansible: every host; those in no group
_EVERY_HOST, _NO_GROUP = "all", "ungrouped"
_THIS_COMPUTER = (*_HERE, "127.0.0.1", "::1")
_LONGEST_INTERFACE_BYTES = 15  # IFNAMSIZ - 1, linux/if.h
_RESERVED_INTERFACES = {"lo", "all", "default", ".", ".."}  # see Documentation/networking/ip-sysctl


def is_package(name: object) -> bool:
    """Whether apt can be asked for it: a name, perhaps with ``:architecture`` and ``=version``."""
    return isinstance(name, str) and _PACKAGE.fullmatch(name) is not None


def is_user(name: object) -> bool:
    """Whether a system may have such a user, or a number that stands for one."""
    return isinstance(name, str) and _USER.fullmatch(name) is not None


def group_mistake(name: object) -> str | None:
    """What is wrong with the name of a group of Ansible's; None: nothing."""
    if not isinstance(name, str) or _GROUP.fullmatch(name) is None:
        return "is not a name that Ansible takes"
    if name == _NO_GROUP:
        return "is what Ansible calls the hosts of no group"
    if name == "localhost":
        return "is what Ansible calls the computer that it runs on"
    return None


def inventory_mistake(name: str) -> str | None:
    """What is wrong with what Ansible is to call a machine; None: nothing."""
    if _INVENTORY.fullmatch(name) is None:
        return "is not a name that Ansible takes"
    if name.lower() in _THIS_COMPUTER:
        return "is what Ansible calls the computer that it runs on"
    if name == _EVERY_HOST:
        return "is what Ansible calls all hosts"
    if name == _NO_GROUP:
        return "is what Ansible calls the hosts of no group"
    return None


def inventory_name(name: str, said: str | None = None) -> str:
    """What Ansible calls a machine: what is said, or its name, if that is not Ansible's own."""
    return said or (f"{name}-machine" if name in (_EVERY_HOST, _NO_GROUP) else name)


def host_mistake(name: str) -> str | None:
    """What is wrong with a name by which a machine is looked up; None: nothing.

    Of its characters and length see RFC 1123, which others check.
    """
    labels = name.lower().split(".")
    if labels[0] in _HERE or labels[-1] == "localhost":
        return "means this computer itself, wherever it is asked for (RFC 6761)"
    if _NUMBER.fullmatch(labels[-1]):
        return "ends as an address does, and programs take it for one"
    for label in labels:
        if label.startswith("xn--"):
            try:
                label.encode().decode("idna")
            except UnicodeError:
                return f"has {label!r}, which is no word in Punycode (RFC 3492)"
    return None


def member_mistake(name: str) -> str | None:
    """What is wrong with the name of a member of a layout; None: nothing."""
    if _MEMBER.fullmatch(name) is None or ".." in name or name[-1] in ".-":
        return "has other characters than letters, digits and inner _ . -"
    if len(name.encode()) > _LONGEST_MEMBER_BYTES:
        return f"has more than {_LONGEST_MEMBER_BYTES} bytes, and names of files have it in them"
    return None


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
    if _INTERFACE.fullmatch(name) is None:
        return "is one that programs take for an option or a pattern"
    return None
