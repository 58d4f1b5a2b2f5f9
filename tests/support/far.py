"""A host with a libvirt of its own, as tests see it: a rack with a libvirtd, on no network."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_carthage.fabric.host.programs import PATH
from pytest_carthage.providers.libvirt import probes
from tests.support.rack import Rack, rack

__all__ = ["Far", "far"]

_DAEMON = {
    "auth_unix_ro": "none",
    "auth_unix_rw": "none",
    "unix_sock_group": "root",
    "log_outputs": "3:stderr",
}
_QEMU = {
    "user": "root",
    "group": "root",
    "dynamic_ownership": 0,
    "remember_owner": 0,
    "security_driver": "none",
    "namespaces": [],
    "cgroup_controllers": [],
    "stdio_handler": "file",
}
#: where volumes are
POOL = "/srv/pool"
_START = """\
set -e
rm -rf /var/lib/libvirt /var/cache/libvirt /var/log/libvirt
mkdir -p /etc/libvirt /var/lib/libvirt /var/cache/libvirt/qemu /var/log/libvirt
cp -r /srv/pool/.probes /var/cache/libvirt/qemu/capabilities
echo libvirt-qemu:x:64055:64055::/:/bin/false >> /etc/passwd
echo libvirt-qemu:x:64055: >> /etc/group
libvirtd --config /etc/libvirt/libvirtd.conf > /var/log/libvirtd.log 2>&1 < /dev/null &
timeout 60 sh -c 'until virsh -q -c qemu:///system list; do sleep 0.1; done' > /dev/null 2>&1 ||
    { cat /var/log/libvirtd.log; exit 1; }
virsh -q -c qemu:///system pool-define-as default dir --target /srv/pool
virsh -q -c qemu:///system pool-start default
"""


@dataclass(kw_only=True)
class Far:
    """The host; its libvirt is at :attr:`uri`."""

    rack: Rack
    folder: Path

    @property
    def ssh(self) -> Path:
        """A command that reaches it as ssh(1) does any other one."""
        return self.folder / "ssh"

    def uri(self, user: str = "root", **parameters: str) -> str:
        """As a user would name it."""
        query = "&".join(f"{k}={v}" for k, v in {"command": str(self.ssh), **parameters}.items())
        return f"qemu+ssh://{user}@big.lab/system?{query}"

    def virsh(self, *words: str) -> str:
        """What virsh prints there."""
        return self.rack.run(shlex.join(["virsh", "-q", "-c", "qemu:///system", *words]))

    def volumes(self) -> list[str]:
        """Files of its pool."""
        return sorted(self.rack.run(f"ls {POOL}").split())

    def domains(self) -> list[str]:
        """Names of its domains."""
        return self.virsh("list", "--all", "--name").split()

    def write_domains(self, *texts: str) -> None:
        """Have it know domains, by their XML."""
        for text in texts:
            self.rack.write("/tmp/domain.xml", text)
            self.virsh("define", "/tmp/domain.xml")

    def ways(self) -> list[int]:
        """Processes of ssh(1) here that lead there."""
        config, pids = os.fsencode(self.folder / "ssh_config"), []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = path.read_bytes().split(b"\0")
                if words[0] == b"/usr/bin/ssh" and config in words:
                    pids.append(int(path.parent.name))
        return pids

    def forget_host_key(self) -> None:
        """Have nobody here know it."""
        (self.folder / "known_hosts").write_text("")

    def know_host_key(self) -> None:
        """Have it be known."""
        (self.folder / "known_hosts").write_text(f"big.lab {self.rack.host_key}\n")


@contextlib.contextmanager
def far(folder: Path) -> Iterator[Far]:
    """A host, for the time of a block.

    :param folder: on a file system with room for disks.
    """
    (folder / "pool").mkdir(parents=True)
    probes.recall(folder)
    with rack(folder / "rack", name="big") as host:
        made = Far(rack=host, folder=folder)
        outside = [word for word in host.reach if word not in ("--root", "--wd")]
        root = host.folder / "root"
        _run(*outside, "mkdir", "-p", f"{root}{POOL}")
        _run(*outside, "mount", "--bind", str(folder / "pool"), f"{root}{POOL}")
        _run(*outside, "mount", "-t", "sysfs", "-o", "ro", "sysfs", f"{root}/sys")
        _run("cp", "-r", str(folder / "cache/qemu/capabilities"), str(folder / "pool/.probes"))
        for name, settings in (("libvirtd.conf", _DAEMON), ("qemu.conf", _QEMU)):
            lines = [f"{key} = {json.dumps(value)}\n" for key, value in settings.items()]
            host.run("mkdir -p /etc/libvirt")
            host.write(f"/etc/libvirt/{name}", "".join(lines))
        host.run(_START)
        made.know_host_key()
        (folder / "ssh_config").write_text(
            f"Host *\n  ProxyCommand {host.proxy_command}\n  IdentityFile {host.identity}\n"
            f"  IdentitiesOnly yes\n  UserKnownHostsFile {folder}/known_hosts\n"
            "  GlobalKnownHostsFile /dev/null\n"
        )
        made.ssh.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {folder}/ssh_config "$@"\n')
        made.ssh.chmod(0o755)
        yield made


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, env={"PATH": PATH})
