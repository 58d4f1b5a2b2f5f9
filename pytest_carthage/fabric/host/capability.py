"""What the running kernel can do, found out by trying where nothing else is.

The attempts are made by a process of its own, in a network namespace that ends with it. As with
every first use of a feature, the kernel may load the module for it.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping

from pytest_carthage.errors import Problem
from pytest_carthage.fabric import netlink
from pytest_carthage.fabric import syscalls as sys_
from pytest_carthage.fabric.host import privilege

__all__ = ["NAMES", "probe", "problems"]

#: capability to what it is, in words, and the kernel module that has it
_WORDS = {
    "vlan": ("make 802.1Q links", "8021q"),
    "vxlan": ("make VXLAN tunnels", "vxlan"),
    "macvlan": ("make macvlan links", "macvlan"),
    "gre": ("make GRE tunnels", "ip_gre"),
    "gre6": ("make GRE tunnels over IPv6", "ip6_gre"),
    "bond": ("bond links", "bonding"),
    "netem": ("emulate bad lines (netem)", "sch_netem"),
    "tbf": ("limit rates (tbf)", "sch_tbf"),
    "tun": ("make tun and tap devices", "tun"),
    "nft-bridge": ("filter on bridges by nftables", "nf_tables"),
    "nft-netdev": ("filter at interfaces by nftables", "nf_tables"),
}
#: all that can be asked for
NAMES = tuple(_WORDS)

_BOOTSTRAP = """
import sys
sys.path.insert(0, {path!r})
from pytest_carthage.fabric.host import capability
capability.try_out({names!r})
"""
_LIMIT_S = 30.0
_known: dict[str, str | None] = {}


def probe(names: Iterable[str]) -> dict[str, str | None]:
    """Find out which of these the kernel can do: None, or the reason why not.

    Each is tried once per process. It needs no privileges; where not even a user namespace can
    be made, that is the reason.

    :raises ValueError: an unknown name.
    """
    wanted = list(dict.fromkeys(names))
    unknown = [name for name in wanted if name not in _WORDS]
    if unknown:
        raise ValueError(f"unknown capability {unknown[0]!r}; there are: {', '.join(NAMES)}")
    missing = [name for name in wanted if name not in _known]
    if missing:
        _known.update(_ask(missing))
    return {name: _known[name] for name in wanted}


def problems(who: str, needs: Mapping[str, str]) -> list[Problem]:
    """List what the kernel lacks of a plan's needs; nothing is started where there are none.

    :param needs: capability to what needs it, as in ``{"gre": "network 'mgmt' of kind gre"}``.
    """
    if not needs:
        return []
    return [
        Problem(
            who=who,
            what=f"{needs[name]}: this kernel cannot {_WORDS[name][0]} "
            f"(Linux {platform.release()}: {reason})",
            remedy=f"a kernel with the module {_WORDS[name][1]} "
            f"(Debian's own has it; modprobe {_WORDS[name][1]})",
        )
        for name, reason in probe(needs).items()
        if reason is not None
    ]


def _ask(names: list[str]) -> dict[str, str | None]:
    here = os.path.abspath(__file__)
    code = _BOOTSTRAP.format(
        path=os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(here)))), names=names
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd="/",
        timeout=_LIMIT_S,
    )
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no word"]
        return dict.fromkeys(names, f"it cannot be tried: {last[0]}")
    answers: dict[str, str | None] = json.loads(done.stdout)
    return answers


def try_out(names: list[str]) -> None:
    """Child: try these in a namespace of its own, and print what came of each."""
    flags = sys_.CLONE_NEWNET
    if not privilege.is_privileged():
        flags |= sys_.CLONE_NEWUSER
    try:
        sys_.unshare(flags)
    except OSError as error:
        answers: dict[str, str | None] = dict.fromkeys(names, f"no namespace: {error.strerror}")
    else:
        _make_ground()
        answers = {name: _outcome(_attempts()[name]) for name in names}
    json.dump(answers, sys.stdout)


def _outcome(attempt: Callable[[], None]) -> str | None:
    try:
        attempt()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _make_ground() -> None:
    batch = netlink.Batch()
    batch.veth("port", bridge_index=0, peer="end", peer_namespace_fd=-1, mac=None, mtu=None)
    batch.commit()


def _attempts() -> dict[str, Callable[[], None]]:
    here = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def make(add: Callable[[netlink.Batch, int], None]) -> Callable[[], None]:
        def attempt() -> None:
            batch = netlink.Batch()
            add(batch, netlink.index_of("end"))
            try:
                batch.commit()
            except OSError as error:
                raise OSError(error.errno, _said(error)) from error

        return attempt

    return {
        "vlan": make(lambda b, end: b.vlan("try-vlan", parent_index=end, vlan_id=2)),
        "vxlan": make(lambda b, end: b.vxlan("try-vxlan", vni=1, local=None)),
        "macvlan": make(
            lambda b, end: b.macvlan(
                "try-macvlan", parent_index=end, namespace_fd=here, mac=None, mtu=None
            )
        ),
        "gre": make(
            lambda b, end: b.gre(
                "try-gre", local="192.0.2.1", remote="192.0.2.2", over=None, mtu=None
            )
        ),
        "gre6": make(
            lambda b, end: b.gre("try-gre6", local="fd00::1", remote="fd00::2", over=None, mtu=None)
        ),
        "bond": make(lambda b, end: b.bond("try-bond", mac=None, mtu=None)),
        "netem": lambda: netlink.try_discipline("port", "netem"),
        "tbf": lambda: netlink.try_discipline("port", "tbf"),
        "tun": _make_tun,
        "nft-bridge": lambda: netlink.try_table(7),  # NFPROTO_BRIDGE
        "nft-netdev": lambda: netlink.try_table(5),  # NFPROTO_NETDEV
    }


def _said(error: OSError) -> str:
    """The kernel's own words of an error of a batch, where it gave some."""
    text = str(error.strerror)
    if text.endswith(")") and " (" in text:
        return text[text.index(" (") + 2 : -1]
    return text.split(": ", 1)[-1]


def _make_tun() -> None:
    import fcntl
    import struct

    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        # TUNSETIFF, IFF_TAP | IFF_NO_PI (linux/if_tun.h)
        fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH14x", b"try-tap", 0x1002))
    finally:
        os.close(fd)
