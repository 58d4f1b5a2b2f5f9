"""What root of a machine may do to the kernel that it shares with the host.

Root of a machine that root built is root of the host, as far as the kernel can tell: only its
capabilities and what it can see keep it from the clock, the modules and the disks. So it has what
engines give to containers, and what networks are shaped with. See capabilities(7).

A fabric in a user namespace needs none of this: there root has no power over the host.
"""

from __future__ import annotations

from pytest_carthage.fabric import syscalls as sys_

#: name to number
NUMBERS = {
    "chown": 0,
    "dac_override": 1,
    "fowner": 3,
    "fsetid": 4,
    "kill": 5,
    "setgid": 6,
    "setuid": 7,
    "setpcap": 8,
    "net_bind_service": 10,
    "net_admin": 12,
    "net_raw": 13,
    "sys_chroot": 18,
    "audit_write": 29,
    "setfcap": 31,
}
#: of no use in a user namespace: the clock, modules, hardware and labels are the host's. Programs
#: that see that they lack them do without (as chrony does), and fail where they have them in vain
IN_VAIN = {"sys_module": 16, "sys_rawio": 17, "sys_time": 25, "mac_override": 32, "mac_admin": 33}
#: of a network that is not the host's
_NETWORK = ("net_admin", "net_raw")


def enter(*, network: bool) -> None:
    """Give up, for good and for all who will be started, what only the host's root may.

    :param network: keep what shapes the network that the caller is in, which is not the host's.
    :raises OSError: the kernel refused.
    """
    names = NUMBERS if network else NUMBERS.keys() - set(_NETWORK)
    sys_.limit_capabilities(sum(1 << NUMBERS[name] for name in names))
