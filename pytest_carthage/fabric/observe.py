"""What a machine looks like from inside, read from /proc and netlink without any tool."""

from __future__ import annotations

import os
import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from pytest_carthage.fabric import accounts, netlink

_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
#: files of ``/proc/net`` to the state in them of a socket that waits for peers
LISTS = {"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}


def processes() -> list[dict[str, Any]]:
    """Processes of the caller's PID namespace: pid, ppid, user, state, rss_kib, args."""
    found = []
    names: dict[int, str] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        try:
            with open(f"/proc/{entry}/stat", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
            with open(f"/proc/{entry}/cmdline", "rb") as raw:
                args = raw.read().replace(b"\0", b" ").decode(errors="replace").strip()
            if not args:
                with open(f"/proc/{entry}/comm", errors="replace") as file:
                    args = f"[{file.read().strip()}]"
            uid = os.stat(f"/proc/{entry}").st_uid
        except OSError:
            continue  # it ended meanwhile
        if uid not in names:
            names[uid] = accounts.find(str(uid)).name
        found.append(
            {
                "pid": int(entry),
                "ppid": int(fields[1]),
                "user": names[uid],
                "state": fields[0],
                "rss_kib": int(fields[21]) * _PAGE_KIB,
                "args": args,
            }
        )
    return sorted(found, key=lambda row: row["pid"])


def _decoded(text: str) -> tuple[str, int]:
    host, _, port = text.partition(":")
    raw = bytes.fromhex(host)
    if len(raw) == 4:
        return str(IPv4Address(raw[::-1])), int(port, 16)
    words = struct.unpack("<4I", raw)
    return str(IPv6Address(struct.pack(">4I", *words))), int(port, 16)


def listening() -> list[dict[str, Any]]:
    """Sockets that wait for peers: protocol, address, port."""
    rows = []
    for protocol in LISTS:
        try:
            with open(f"/proc/net/{protocol}") as file:
                rows += waiting(protocol, file.read())
        except OSError:
            continue
    return rows


def waiting(protocol: str, text: str) -> list[dict[str, Any]]:
    """Of a file of :data:`LISTS` the sockets that wait for peers: protocol, address, port."""
    rows = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if fields[3] == LISTS[protocol]:
            address, port = _decoded(fields[1])
            rows.append({"protocol": protocol, "address": address, "port": port})
    return rows


def everything() -> dict[str, Any]:
    """All observations in one."""
    return {
        "hostname": socket.gethostname(),
        "processes": processes(),
        "listening": listening(),
        "addresses": netlink.addresses(),
        "routes": netlink.routes(),
    }
