"""Ports of a gate's address that lead to another port of it: the gate is in no service's way.

Who listens on a port of one loopback address takes it from those who want it on all addresses
(bind(2)). So a gate listens on a port that no service is known for, and a rule of nftables (nft(8))
in the machine leads there what is sent to the one that it is for.
"""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_carthage.errors import FabricError
from pytest_carthage.fabric.host.programs import PATH

if TYPE_CHECKING:
    from pytest_carthage.handles.channel import Channel

__all__ = ["PORTS", "Redirect", "listening"]

#: what starts connections takes none of these (ip_local_port_range of ip-sysctl)
PORTS = range(61000, 64186)


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """One port of an address in a machine, which leads to another one."""

    fabric: Channel
    machine: str
    address: str
    port: int
    to_port: int

    async def begin(self) -> bool:
        """Have it lead there; False: this host has no nft, or no address translation."""
        return await self._load(
            f"table ip {self._table} {{\nchain output {{\n"
            "type nat hook output priority -100; policy accept;\n"
            f"ip daddr {self.address} tcp dport {self.port} "
            f"dnat to {self.address}:{self.to_port}\n}}\n}}\n"
        )

    async def end(self) -> None:
        """Have it lead nowhere; the machine may have flushed its rules before."""
        await self._load(f"delete table ip {self._table}\n")

    @property
    def _table(self) -> str:
        return f"carthage_gate_{self.address.replace('.', '_')}_{self.port}"

    async def _load(self, rules: str) -> bool:
        """Load rules in the machine's network; False: they were refused."""
        fd = os.memfd_create("nft-rules", os.MFD_CLOEXEC)
        null = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, rules.encode())
            os.lseek(fd, 0, os.SEEK_SET)
            reply, _ = await self.fabric.request(
                "inside",
                fds=(fd, null, null),
                machine=self.machine,
                argv=["nft", "-f", "-"],
                env={"PATH": PATH},
            )
        except FabricError:
            return False
        finally:
            os.close(fd)
            os.close(null)
        return bool(reply["status"] == 0)


async def listening(fabric: Channel, machine: str, address: str, backlog: int) -> socket.socket:
    """A socket that listens on the first of :data:`PORTS` that is free in a machine.

    :raises FabricError: there is none, or the machine has no network here.
    """
    failed: FabricError | None = None
    for port in PORTS:
        try:
            _, fds = await fabric.request(
                "socket", machine=machine, bind=[address, port], listen=backlog
            )
        except FabricError as error:
            failed = error
            if error.errno != errno.EADDRINUSE:
                break
        else:
            return socket.socket(fileno=fds[0])
    assert failed is not None  # there are ports
    raise failed
