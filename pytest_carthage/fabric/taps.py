"""Cables whose far end is a tap device: for who brings a kernel of its own, as an emulator does.

The device is on the network's bridge, under the name that the port of a veth would have; so
captures, faults and pairs find nothing new. It stays when nobody has it open: then it has no
carrier. Sources: the kernel's networking/tuntap, linux/if_tun.h.
"""

from __future__ import annotations

import fcntl
import os
import struct
from typing import TYPE_CHECKING

from pytest_carthage.fabric import links, netlink, qdisc

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_carthage.fabric.spec import LinkSpec

_TUNSETIFF, _TUNSETPERSIST = 0x400454CA, 0x400454CB
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
_REQUEST = struct.Struct("16sH22x")

#: kinds of links that a kernel makes for itself, of cables that are there
_OF_ITS_OWN = frozenset({"bond", "vlan", "vxlan", "gre"})


def open_device(port: str, *, offloads: bool = False) -> int:
    """Open a tap device, which is made where there is none; returns the descriptor.

    :param offloads: each frame begins with a ``struct virtio_net_hdr``.
    :raises OSError: it is open already (EBUSY), or there are no taps here.
    """
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise OSError(error.errno, f"tap {port}: /dev/net/tun: {error.strerror}") from error
    try:
        flags = _IFF_TAP | _IFF_NO_PI | (_IFF_VNET_HDR if offloads else 0)
        fcntl.ioctl(fd, _TUNSETIFF, _REQUEST.pack(port.encode(), flags))
    except OSError as error:
        os.close(fd)
        raise OSError(error.errno, f"tap {port}: {error.strerror}") from error
    return fd


def connect(link: LinkSpec, *, bridge_index: Callable[[str], int]) -> None:
    """Make the cables of a link, each with a tap device at its end.

    :raises ValueError: its kind has no cable of its own, and is no business of its machine's.
    :raises OSError: the kernel refused.
    """
    if link["kind"] not in {"bridged", "trunk", *_OF_ITS_OWN}:
        raise ValueError(f"link {link['interface']!r} of kind {link['kind']} cannot end in a tap")
    for port in links.ports(link):
        fd = open_device(port)
        try:
            fcntl.ioctl(fd, _TUNSETPERSIST, 1)
        finally:
            os.close(fd)
        batch = qdisc.Batch()
        if link["mtu"] is not None:
            batch.mtu(port, link["mtu"])
        if link["kind"] != "trunk":
            batch.master(port, bridge_index(link["bridge"]))
        batch.up(port)
        batch.commit()


def unmake(link: LinkSpec) -> None:
    """Remove what :func:`connect` made; what is gone already is no error."""
    for port in links.ports(link):
        batch = netlink.Batch()
        try:
            batch.delete(port)
            batch.commit()
        except OSError:
            pass
