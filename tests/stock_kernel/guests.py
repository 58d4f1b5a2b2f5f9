"""Servers with Debian's standard kernel, systemd and control groups of version 2 alone.

They see this checkout and the Python that runs it at the places that those have here, read-only.
``pytest-carthage up tests/stock_kernel/guests.py:Bookworm`` keeps one, to run commands in by hand.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

from pytest_carthage import Image, Layout, Machine, Role, Vm, filesystem_task, machine_task
from tests.support.unprivileged import REPOSITORY

if TYPE_CHECKING:
    from pytest_carthage.roles.served import Files, Served

__all__ = ["ENVIRONMENT", "TAR", "Bookworm", "Core", "Trixie"]

#: of the image of this project's tests: nobody builds one in the guest
TAR = REPOSITORY / ".tox/stock-kernel/debian.tar"

ENVIRONMENT = {
    # what is skipped for a remedy fails
    "CI": "1",
    "CARTHAGE_TEST_DEBIAN": str(TAR),
    "HYPOTHESIS_STORAGE_DIRECTORY": "/var/tmp/hypothesis",
    "LANG": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
}

#: what a server has, what ``doctor`` asks for, and podman with crun
_PACKAGES = (
    *("dbus", "dbus-user-session", "iproute2", "iputils-ping", "libpam-systemd", "passwd"),
    *("linux-image-amd64", "procps", "python3", "systemd-sysv", "tiny-initramfs", "udev", "uidmap"),
    *("bird2", "dnsmasq-base", "e2fsprogs", "isc-dhcp-client", "nftables", "skopeo", "tcpdump"),
    *("crun", "mmdebstrap", "podman", "qemu-utils", "wireguard-tools"),
)
#: what :mod:`tests.stock_kernel.core` uses
_FEW_PACKAGES = (
    *("iproute2", "iputils-ping", "linux-image-amd64", "python3", "systemd-sysv"),
    *("nftables", "tiny-initramfs", "wireguard-tools"),
)
#: services of packages that no test asks for
_UNASKED = "bird podman podman-auto-update podman-restart"

_OPTIONS = "trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro"


def _shared() -> tuple[Path, ...]:
    """Folders of this Python and of this checkout, each once."""
    paths = {Path(sys.base_prefix), Path(sys.prefix), REPOSITORY}
    return tuple(
        sorted(path for path in paths if not any(path.is_relative_to(p) for p in paths - {path}))
    )


def _as_file_systems(paths: tuple[Path, ...]) -> str:
    """Elements of a domain that shares these folders by 9p, which Debian's kernels have."""
    return "".join(
        f"<filesystem type='mount' accessmode='passthrough' multidevs='remap'>"
        f"<source dir={quoteattr(str(path))}/><target dir='share{number}'/><readonly/></filesystem>"
        for number, path in enumerate(paths)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SharesOfHost(Role):
    """Folders of this host, at the same places."""

    paths: tuple[Path, ...]

    @machine_task("mount what the host shares")
    async def mount(self, machine: Served) -> None:
        """Mount them read-only; who looks again sees what it saw."""
        for number, path in enumerate(self.paths):
            where = shlex.quote(str(path))
            # users of the tests' own go there, too
            above = shlex.join(str(each) for each in path.parents)
            await machine.run(f"""
                mkdir -p {where}
                chmod o+rx {above}
                mount -t 9p -o {_OPTIONS} share{number} {where}
            """)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet(Role):
    """A server that starts nothing by itself, since emulated processors have enough to do."""

    @filesystem_task("mask services that no test asks for")
    async def mask(self, fs: Files) -> None:
        """Link them to nothing, as ``systemctl mask`` does."""
        await fs.run(
            f"for name in {_UNASKED}; do ln -sf /dev/null /etc/systemd/system/$name.service; done"
        )


def _server(suite: str, packages: tuple[str, ...], *roles: Role) -> Machine:
    paths = _shared()
    return Machine(
        Image.debian(suite).with_packages(*packages),
        init="systemd",
        roles=[*roles, SharesOfHost(paths=paths)],
        ready_timeout_s=900,
        on=Vm(memory_mib=1024, cpus=2, xml=f"<devices>{_as_file_systems(paths)}</devices>"),
    )


class Bookworm(Layout):
    """Debian 12."""

    guest = _server("bookworm", _PACKAGES, Quiet())


class Trixie(Layout):
    """Debian 13."""

    guest = _server("trixie", _PACKAGES, Quiet())


class Core(Layout):
    """Debian 12, with little in it."""

    guest = _server("bookworm", _FEW_PACKAGES)
