"""The fabric's part in a network that spans two fabrics: a VXLAN tunnel, and what it runs over.

Each tunnel runs in a network namespace of its own. There, and not in the fabric's namespace, is
the cable to the other fabric, with the only addresses; the tunnel's end alone is in the fabric,
on the network's bridge. So no machine can reach the cable, and tunnels do not meet each other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pytest_carthage.fabric import netlink
from pytest_carthage.fabric import syscalls as sys_
from pytest_carthage.fabric.wire.server import Reply

if TYPE_CHECKING:
    from pytest_carthage.fabric.namespaces import Home
    from pytest_carthage.fabric.wire.server import Handler

#: the cable, as seen from either end
_CABLE = "cable"


class Underlays:
    """What the tunnels of one fabric run over."""

    def __init__(self, home: Home, bridge_index: Callable[[str], int]) -> None:
        self._own_network = home.network
        self._home = home
        self._bridge_index = bridge_index
        #: name to (descriptor of its namespace, the tunnel's end in the fabric)
        self._made: dict[str, tuple[int, str]] = {}

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """The operations that they answer."""
        return {
            "underlay": lambda c, m, f: Reply((self.make(m["name"]),)),
            "cable": lambda c, m, f: self.connect(m["name"], f[0], m["mtu"]),
            "tunnel": lambda c, m, f: Reply(interface=self.tunnel(m)),
            "untunnel": lambda c, m, f: self.remove(m["name"]),
        }

    def make(self, name: str) -> int:
        """Make an empty one; returns a descriptor of its namespace, for the other fabric."""
        if name in self._made:
            raise ValueError(f"there is a span {name!r} already")
        namespace = self._home.new_network()
        # names of links and bridges have no dot
        self._made[name] = namespace, f"span.{namespace}"
        return os.dup(namespace)

    def _enter(self, name: str) -> tuple[int, str]:
        try:
            namespace, tunnel = self._made[name]
        except KeyError:
            raise LookupError(f"no span {name!r}") from None
        sys_.setns(namespace, sys_.CLONE_NEWNET)
        return namespace, tunnel

    def connect(self, name: str, other: int, mtu: int) -> Reply:
        """Lay the cable to the namespace behind a descriptor, which is another fabric's."""
        try:
            self._enter(name)
            batch = netlink.Batch()
            batch.veth(
                _CABLE, bridge_index=0, peer=_CABLE, peer_namespace_fd=other, mac=None, mtu=mtu
            )
            batch.commit()
        finally:
            sys_.setns(self._own_network, sys_.CLONE_NEWNET)
        return Reply()

    def tunnel(self, message: Mapping[str, Any]) -> str:
        """Address our end of the cable, and put a tunnel through it on a bridge."""
        bridge_index = self._bridge_index(message["bridge"])
        try:
            _, tunnel = self._enter(message["name"])
            for switch in ("all", "default"):
                try:
                    with open(f"/proc/sys/net/ipv6/conf/{switch}/disable_ipv6", "w") as file:
                        file.write("1")
                except OSError:
                    pass  # a kernel without IPv6
            batch = netlink.Batch()
            batch.up(_CABLE)
            batch.address(_CABLE, message["local"])
            batch.commit()
            batch = netlink.Batch()
            batch.vxlan(
                tunnel,
                vni=message["vni"],
                local=message["local"].partition("/")[0],
                remote=message["remote"],
                mtu=message.get("mtu"),
                bridge_index=bridge_index,
                namespace_fd=self._own_network,
            )
            batch.commit()
        finally:
            sys_.setns(self._own_network, sys_.CLONE_NEWNET)
        return tunnel

    def remove(self, name: str) -> Reply:
        """Remove one with its tunnel; one that is gone already is not an error."""
        namespace, tunnel = self._made.pop(name, (-1, ""))
        if namespace < 0:
            return Reply()
        for fd, interface in ((self._own_network, tunnel), (namespace, _CABLE)):
            try:
                sys_.setns(fd, sys_.CLONE_NEWNET)
                batch = netlink.Batch()
                batch.delete(interface)
                batch.commit()
            except OSError:
                pass  # it never came to that, or the other fabric is gone, and the cable with it
            finally:
                sys_.setns(self._own_network, sys_.CLONE_NEWNET)
        os.close(namespace)
        return Reply()
