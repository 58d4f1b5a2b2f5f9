"""Settings of IPv4 by interface, as a kernel has them that nobody has configured.

A new network namespace takes them from the host's (ip-sysctl, devconf_inherit_init_net): a layout
would do other things on a host that is hardened.
"""

from __future__ import annotations

import os

_CONF = "/proc/sys/net/ipv4/conf"
#: what is not 0; see the kernel's net/ipv4/devinet.c
_SET = {
    "accept_redirects": 1,
    "secure_redirects": 1,
    "send_redirects": 1,
    "shared_media": 1,
    "igmpv2_unsolicited_report_interval": 10000,
    "igmpv3_unsolicited_report_interval": 1000,
    "arp_evict_nocarrier": 1,
}
#: what only the defaults have, from which an interface takes its own
_SET_BY_DEFAULT = {"accept_source_route": 1}
#: set with the others of a router, or by a routing daemon
_FORWARDING = ("forwarding", "bc_forwarding", "mc_forwarding")

#: (path below conf, value) of all that this host has otherwise, once it was looked up
_changes: list[tuple[str, str]] | None = None


def differences() -> list[tuple[str, str]]:
    """What the namespace that the caller is in has otherwise: path to what it should be."""
    found = []
    for group in ("all", "default"):
        for name in sorted(os.listdir(f"{_CONF}/{group}")):
            if name in _FORWARDING:
                continue
            plain = _SET.get(name, _SET_BY_DEFAULT.get(name, 0) if group == "default" else 0)
            with open(f"{_CONF}/{group}/{name}") as file:
                if file.read().strip() != str(plain):
                    found.append((f"{group}/{name}", str(plain)))
    return found


def reset() -> None:
    """Have a namespace that is new, and in which the caller is, be as on a host of no settings."""
    global _changes
    if _changes is None:
        _changes = differences()
        # the loopback interface has taken its own already
        _changes += [
            (f"lo/{path.partition('/')[2]}", value)
            for path, value in _changes
            if path.startswith("default/")
        ]
    for path, value in _changes:
        try:
            with open(f"{_CONF}/{path}", "w") as file:
                file.write(value)
        except OSError:
            continue  # what this kernel lets nobody write
