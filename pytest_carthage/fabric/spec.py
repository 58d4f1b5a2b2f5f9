"""What a planned machine is called on its way into the fabric: the words of both ends.

Everything is text, numbers and lists of them, as JSON takes it; an address is written as in
``10.0.0.1/24``. Nothing is left out: what does not apply is None, or empty.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

#: what the fabric makes of a machine: all of it; an empty network namespace for somebody to
#: live in; tap devices, for somebody who brings a kernel of its own; or nothing
PlaceKind = Literal["process", "namespace", "tap", "elsewhere"]


class NetworkSpec(TypedDict):
    """A network that is a bridge of the fabric."""

    bridge: str
    mtu: int | None
    #: "bridged" or "point-to-point"
    kind: str


class VlanSpec(TypedDict):
    """A network on a trunk: its 802.1Q number, its bridge, and its port there."""

    id: int
    bridge: str
    port: str


class MemberSpec(TypedDict):
    """A member of a bond: its name in the machine, and the fabric's end of its cable."""

    interface: str
    port: str


class LinkSpec(TypedDict):
    """One interface of a machine, and where it ends."""

    interface: str
    #: bridged, macvlan, bond, trunk, vlan, vxlan or gre
    kind: str
    bridge: str
    #: the fabric's end of its cable
    port: str
    mac: str | None
    mtu: int | None
    #: whether it is set up when the machine starts
    up: bool
    addresses: list[str]
    #: whether it speaks IPv6 at all
    ipv6: bool
    accept_ra: bool
    #: IP versions of what hides behind its address
    masquerade: list[int]
    #: interfaces of the machine that it stands on
    over: list[str]
    #: number of an 802.1Q link
    vlan: int | None
    #: of a trunk
    vlans: list[VlanSpec]
    #: number of a VXLAN
    vni: int | None
    #: ends of a tunnel
    local: str | None
    remotes: list[str]
    #: of a bond
    members: list[MemberSpec]


class RouteSpec(TypedDict):
    """A route; without a destination the default one."""

    destination: str | None
    via: str | None
    interface: str | None
    metric: int | None
    #: whether the next hop is on ``interface``, whatever addresses that has by now
    onlink: bool


class ForwardSpec(TypedDict):
    """A port that leads to another machine."""

    interface: str
    protocol: str
    port: int
    to: str
    to_port: int


class LimitsSpec(TypedDict):
    """What a machine may use at most."""

    memory_mib: int | None
    cpus: float | None
    pids: int | None


class RootSpec(TypedDict):
    """The root of a system container, and whose it is."""

    #: folders of the image's layers, the top first
    lower: list[str]
    #: folder of what the machine writes, and the one that overlayfs needs beside it
    upper: str
    work: str
    #: what 0 of the machine is on the host, and how many there are
    ids: tuple[int, int]
    #: its init; empty: the agent is the first process
    init: list[str]
    #: path to text of what that finds in the machine's ``/run`` at each start
    files: dict[str, str]
    #: who runs its main process (also as in ``user:group``), and where; empty: root, in /
    user: str
    workdir: str
    #: number of the signal that asks its main process to end
    stop_signal: int
    #: whether settings of the host are refused; else they are set without effect
    strict: bool


class MachineSpec(TypedDict):
    """A machine."""

    name: str
    kind: PlaceKind
    hostname: str
    links: list[LinkSpec]
    #: addresses of the loopback interface, without prefix lengths
    loopback: list[str]
    routes: list[RouteSpec]
    forwards: list[ForwardSpec]
    #: whether it forwards packets
    forward: bool
    #: text of ``/etc/resolv.conf``
    resolv: str
    #: text of ``/etc/hosts`` where that is not everybody's
    hosts: NotRequired[str]
    env: dict[str, str]
    #: the main process
    command: list[str] | None
    #: when that is started again, see :mod:`.restarting`
    restart: str
    #: of a system container; without it a machine is over the host's files
    root: NotRequired[RootSpec]
    #: file for what it prints
    log: str
    limits: LimitsSpec | None
    #: path of a control group, used where there are limits
    control_group: str


class MountSpec(TypedDict):
    """A folder or a file that one spawned program sees at another place."""

    source: str
    target: str
    read_only: bool


def elsewhere(name: str) -> MachineSpec:
    """A machine of which the fabric has nothing but its name."""
    return {
        "name": name,
        "kind": "elsewhere",
        "hostname": name,
        "links": [],
        "loopback": [],
        "routes": [],
        "forwards": [],
        "forward": False,
        "resolv": "",
        "env": {},
        "command": None,
        "restart": "no",
        "log": "",
        "limits": None,
        "control_group": "",
    }
