"""Queueing of an interface by raw rtnetlink: narrow links (tc-tbf(8)), bad ones (tc-netem(8))."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from pytest_carthage.fabric import netlink

_RTM_NEWLINK, _RTM_NEWQDISC, _RTM_DELQDISC = 16, 36, 37
_EXCL, _CREATE, _REPLACE = 0x200, 0x400, 0x100
_ROOT = 0xFFFFFFFF
_TCA_KIND, _TCA_OPTIONS = 1, 2
_TBF_PARMS, _TBF_RATE64, _TBF_BURST = 1, 4, 6
_NETEM_CORRUPT, _NETEM_RATE, _NETEM_RATE64 = 4, 6, 8
_NETEM_LATENCY64, _NETEM_JITTER64 = 10, 11
_LINKLAYER_ETHERNET = 1
_NETEM_LIMIT_PACKETS = 50_000
_MOST = 0xFFFFFFFF

_TCMSG = struct.Struct("=BxxxiIII")
_RATESPEC = struct.Struct("=BBHhHI")
_LINK = struct.Struct("=BxHiII")
_IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO = 3, 4, 10, 18
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_IFF_UP = 1
#: see :func:`queue_bytes`
_QUEUE_S, _LEAST_QUEUE = 0.2, 1 << 16


def queue_bytes(rate_bps: float) -> int:
    """How many bytes wait before a narrow link until the next one is dropped."""
    return max(_LEAST_QUEUE, int(rate_bps / 8 * _QUEUE_S))


def _attribute(kind: int, value: bytes) -> bytes:
    size = 4 + len(value)
    return struct.pack("=HH", size, kind) + value + b"\0" * (-size % 4)


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")


def _share(value: float) -> int:
    return min(_MOST, round(value * _MOST))


def tbf_options(rate_bps: float, mtu: int) -> bytes:
    """What a token bucket of this rate is asked for with."""
    rate = max(1, int(rate_bps / 8))
    low = min(rate, _MOST)
    spec = _RATESPEC.pack(0, _LINKLAYER_ETHERNET, 0, 0, 0, low)
    nothing = _RATESPEC.pack(0, 0, 0, 0, 0, 0)
    parms = spec + nothing + struct.pack("=III", min(_MOST, queue_bytes(rate_bps)), 0, 0)
    burst = max(rate // 100, mtu + 100, 5000)
    options = _attribute(_TBF_PARMS, parms)
    if rate > low:
        options += _attribute(_TBF_RATE64, struct.pack("=Q", rate))
    return options + _attribute(_TBF_BURST, struct.pack("=I", min(burst, _MOST)))


def netem_options(spec: Mapping[str, Any]) -> bytes:
    """What netem is asked for with, from the same values as the relay."""
    loss, duplicate = _share(spec.get("loss", 0.0)), _share(spec.get("duplicate", 0.0))
    options = struct.pack("=IIIIII", 0, _NETEM_LIMIT_PACKETS, loss, 0, duplicate, 0)
    if corrupt := spec.get("corrupt"):
        options += _attribute(_NETEM_CORRUPT, struct.pack("=II", _share(corrupt), 0))
    if rate_bps := spec.get("rate_bps"):
        rate = max(1, int(rate_bps / 8))
        options += _attribute(_NETEM_RATE, struct.pack("=IiIi", min(rate, _MOST), 0, 0, 0))
        if rate > _MOST:
            options += _attribute(_NETEM_RATE64, struct.pack("=Q", rate))
    delay, jitter = spec.get("delay_s", 0.0), spec.get("jitter_s", 0.0)
    options += _attribute(_NETEM_LATENCY64, struct.pack("=q", round(delay * 1e9)))
    return options + _attribute(_NETEM_JITTER64, struct.pack("=q", round(jitter * 1e9)))


class Batch(netlink.Batch):
    """Changes to links and their queues."""

    def qdisc(self, interface: str, kind: str, options: bytes) -> None:
        """Queue what leaves by an interface in this way, in place of what it has."""
        body = _TCMSG.pack(0, netlink.index_of(interface), 0, _ROOT, 0)
        body += _text(_TCA_KIND, kind) + _attribute(_TCA_OPTIONS, options)
        self._add(f"{kind} on {interface}", _RTM_NEWQDISC, _CREATE | _REPLACE, body)

    def no_qdisc(self, interface: str) -> None:
        """Queue as an interface does by itself."""
        body = _TCMSG.pack(0, netlink.index_of(interface), 0, _ROOT, 0)
        self._add(f"queue of {interface}", _RTM_DELQDISC, 0, body)

    def ifb(self, name: str) -> None:
        """Add an interface whose queue can be put into another one's way in."""
        body = _LINK.pack(0, 0, 0, _IFF_UP, _IFF_UP) + _text(_IFLA_IFNAME, name)
        body += _attribute(_IFLA_LINKINFO, _text(_INFO_KIND, "ifb"))
        self._add(f"ifb {name}", _RTM_NEWLINK, _CREATE | _EXCL, body)

    def splice(self, near: str, far: str, *, mtu: int) -> None:
        """Add a veth pair of which both ends stay here; only ``far`` is set up."""
        size = _attribute(_IFLA_MTU, struct.pack("=I", mtu))
        other = _LINK.pack(0, 0, 0, 0, 0) + _text(_IFLA_IFNAME, near) + size
        info = _text(_INFO_KIND, "veth") + _attribute(_INFO_DATA, _attribute(_VETH_PEER, other))
        ours = _LINK.pack(0, 0, 0, _IFF_UP, _IFF_UP) + _text(_IFLA_IFNAME, far) + size
        ours += _attribute(_IFLA_LINKINFO, info)
        self._add(f"splice {near} to {far}", _RTM_NEWLINK, _CREATE | _EXCL, ours)

    def on_bridge(self, interface: str, bridge: str | None) -> None:
        """Put an interface on a bridge, or take it off."""
        index = netlink.index_of(bridge) if bridge is not None else 0
        body = _LINK.pack(0, 0, netlink.index_of(interface), 0, 0)
        body += _attribute(_IFLA_MASTER, struct.pack("=I", index))
        self._add(f"{interface} on {bridge}", _RTM_NEWLINK, 0, body)

    def master(self, interface: str, index: int) -> None:
        """Put an interface on the bridge of this index."""
        body = _LINK.pack(0, 0, netlink.index_of(interface), 0, 0)
        body += _attribute(_IFLA_MASTER, struct.pack("=I", index))
        self._add(f"{interface} on its bridge", _RTM_NEWLINK, 0, body)

    def mtu(self, interface: str, size: int) -> None:
        """Set how much an interface carries at once, in bytes."""
        body = _LINK.pack(0, 0, netlink.index_of(interface), 0, 0)
        body += _attribute(_IFLA_MTU, struct.pack("=I", size))
        self._add(f"MTU of {interface}", _RTM_NEWLINK, 0, body)
