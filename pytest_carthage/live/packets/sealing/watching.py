"""Watching the host, the other layouts and this one, and judging what is seen."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import (
    Callable,
)
from typing import TYPE_CHECKING

from pytest_carthage.errors import FabricError
from pytest_carthage.fabric import netlink
from pytest_carthage.fabric.wire import channel
from pytest_carthage.live.packets.packets import dissect
from pytest_carthage.live.packets.sealing.report import Neighbour
from pytest_carthage.live.packets.sealing.survey import (
    CANARY,
    HOST,
    NO_MAC,
    SPAN,
    TOKEN,
    AnyAddress,
    Probe,
    Survey,
    Watch,
    raw_mac,
)
from pytest_carthage.live.packets.taps import Seen, Tap, open_socket

if TYPE_CHECKING:
    from pytest_carthage.handles.channel import Channel


#: how long another layout's fabric may take to open its doors
_NEIGHBOUR_S = 3.0
#: what the fabric makes for itself; names of links and bridges have no dot
_OWN = re.compile(r"lo|[a-z]+\.[0-9]+")


class Watching(Survey):
    """Packet sockets and listeners, and the judgement of what is seen there."""

    def _add_watch(
        self,
        where: str,
        tap: Tap,
        fabric: Channel | None,
        judge: Callable[[Watch, Seen], None],
    ) -> None:
        watch = Watch(where, tap, fabric)
        self._watches.append(watch)

        def readable() -> None:
            for seen in tap.read(500):
                watch.frames += 1
                judge(watch, seen)

        asyncio.get_running_loop().add_reader(tap.fileno(), readable)

    async def _watch_inside(self) -> None:
        fabric = self._fabric
        tap = await Tap.open(fabric, None, None)
        self._add_watch("its own networks", tap, fabric, self._judge_inside)
        self._watched["its own networks"] = "packet socket on all bridges and their ports"

    async def _watch_host(self) -> None:
        try:
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        except PermissionError:
            self._listen_on_host()
            return
        # a plan may give a machine a hardware address that this host has, too
        taken = {raw_mac(row["mac"]) for row in netlink.addresses() if row["mac"]}
        judge = self._judge_outside(frozenset(self._own) - taken - {NO_MAC})
        self._add_watch(HOST, Tap.on(sock, None), None, judge)
        self._watched[HOST] = "packet socket on all interfaces"

    def _listen_on_host(self) -> None:
        """Without privileges, what can be seen on the host is what arrives at a socket."""
        loop = asyncio.get_running_loop()
        addresses = [
            address
            for address, what in self._destinations.items()
            if what == HOST and not address.is_link_local
        ]
        for address in addresses:
            family = socket.AF_INET if address.version == 4 else socket.AF_INET6
            datagrams = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._sockets.append(datagrams)
            streams = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            self._sockets.append(streams)
            try:
                for sock in (datagrams, streams):
                    sock.bind((str(address), 0))
            except OSError:  # an address that is not in use yet, or not any more
                continue
            streams.listen(128)
            ports = datagrams.getsockname()[1], streams.getsockname()[1]
            self._listening[address] = ports

            def heard(sock: socket.socket = datagrams) -> None:
                with contextlib.suppress(BlockingIOError):
                    data, peer = sock.recvfrom(2048)
                    probe = self._probe_of(data)
                    if probe is not None:
                        self._leak(probe, f"arrived there from {peer[0]}")

            def called(sock: socket.socket = streams, to: AnyAddress = address) -> None:
                with contextlib.suppress(BlockingIOError):
                    connection, peer = sock.accept()
                    connection.close()
                    self._note(
                        f"TCP {to}",
                        f"a TCP connection to {to} ({HOST}) from {peer[0]} arrived there, "
                        "at a port that nobody else knows",
                    )

            loop.add_reader(datagrams.fileno(), heard)
            loop.add_reader(streams.fileno(), called)
        self._watched[HOST] = (
            "no privileges for packet sockets: UDP and TCP sockets that listen on "
            f"{', '.join(map(str, self._listening)) or 'no address'}"
        )

    async def _watch_neighbour(self, neighbour: Neighbour) -> None:
        where = f"environment {neighbour.name}"
        try:
            async with asyncio.timeout(_NEIGHBOUR_S):
                opened = await channel.connect(str(neighbour.socket), where)
                self._channels.append(opened)
                tap = await Tap.open(opened, None, None)
        except (FabricError, OSError):
            return  # it has just ended
        except TimeoutError:
            self._watched[where] = f"not at all: its fabric was busy for {_NEIGHBOUR_S:g} s"
            return
        macs = frozenset(self._own) - {NO_MAC} - frozenset(map(raw_mac, neighbour.macs))
        self._add_watch(where, tap, opened, self._judge_outside(macs, may_be_spanned=True))
        self._watched[where] = "packet socket on all bridges and their ports"

    def _judge_outside(
        self, macs: frozenset[bytes], *, may_be_spanned: bool = False
    ) -> Callable[[Watch, Seen], None]:
        #: probes that came by a declared span: they are seen again wherever they go from there
        legal: set[Probe] = set()

        def judge(watch: Watch, seen: Seen) -> None:
            probe = self._probe_of(seen.data, watch)
            if probe is None and seen.data[6:12] not in macs:
                return
            by_span = may_be_spanned and self._spanned and seen.interface.startswith(SPAN)
            if probe is not None:
                if by_span:
                    legal.add(probe)
                if probe not in legal:
                    self._leak(probe, f"was seen in {watch.where}, on {seen.interface}")
            elif not by_span and not (may_be_spanned and self._spanned):
                self._note(
                    f"{watch.where} {seen.interface} unasked",
                    f"a packet of {self._who(seen)} was seen in {watch.where}, on "
                    f"{seen.interface}: {dissect(seen.data, owners=self._owners)}",
                )

        return judge

    def _judge_inside(self, watch: Watch, seen: Seen) -> None:
        probe = self._probe_of(seen.data, watch)
        is_known = seen.interface in self._ports or bool(_OWN.fullmatch(seen.interface))
        if probe is not None:
            number = self._number_of(seen.data)
            if number in self._frame_probes:
                self._heard.add(self._frame_probes[number])
            if not is_known and seen.is_outgoing:
                self._leak(probe, f"left by {seen.interface}, which is no part of the layout")
                return
        if seen.is_outgoing or seen.interface == "lo":
            return
        source = seen.data[6:12]
        if self._spanned and seen.interface.startswith(SPAN):
            self._own.add(source)  # the far side of a declared span
        elif not is_known or source not in self._own:
            network = self._ports.get(seen.interface, seen.interface)
            self._note(
                f"in by {seen.interface}",
                f"a packet of nobody in the layout came in by {seen.interface}: "
                f"{dissect(seen.data, network=network)}",
            )

    async def _prove_watching(self) -> None:
        """Have every watch see a packet that was sent after all others."""
        token = TOKEN.pack(self._nonce, CANARY)
        watches: list[Watch] = []
        for watch in self._watches:
            try:
                if watch.fabric is None:
                    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                else:
                    sock = await open_socket(watch.fabric, None, socket.AF_INET, socket.SOCK_DGRAM)
            except FabricError:
                if watch.fabric is self._fabric:
                    raise
                self._watched[watch.where] += ", until it ended"
                continue
            with sock:
                sock.sendto(token, ("127.0.0.1", self._port))
            watches.append(watch)
        for watch in watches:
            await watch.is_alive.wait()
