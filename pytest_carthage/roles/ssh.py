"""An SSH server."""

from __future__ import annotations

import contextlib
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pytest_carthage.model.role import Role
from pytest_carthage.model.task import filesystem_task, machine_task
from pytest_carthage.roles.named import known_names

if TYPE_CHECKING:
    from pytest_carthage.roles.served import Files, Served

__all__ = ["SshServer", "ssh_key"]

_KEY = "id_ed25519"
_SETTINGS = """\
PasswordAuthentication no
KbdInteractiveAuthentication no
UseDNS no
Port {port}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SshServer(Role):
    """The OpenSSH server of the distribution, for clients with a key; passwords do not help.

    Each machine makes host keys of its own, and all machines of the layout know them
    (``/etc/ssh/ssh_known_hosts``). Without parameters the key that lets in is one that is made for
    the live layout, see :func:`ssh_key`.
    """

    packages = ("openssh-server",)
    offers = ("ssh",)

    #: lines as in authorized_keys(5); empty: the layout's own key
    authorized_keys: tuple[str, ...] = ()
    #: whom they let in
    user: str = "root"
    #: where it listens, TCP
    port: int = 22

    def __post_init__(self) -> None:
        for line in self.authorized_keys:
            if len(line.split()) < 2 or "PRIVATE" in line or "\n" in line.strip():
                raise ValueError(
                    f"SshServer: authorized_keys has {line[:40]!r}, which is no line of "
                    'authorized_keys(5); try: Path("id_ed25519.pub").read_text()'
                )

    @filesystem_task("leave host keys to each machine, and let no passwords in")
    async def prepare(self, fs: Files) -> None:
        """Remove the host keys that the package has made; write the server's settings."""
        await fs.run("rm -f /etc/ssh/ssh_host_*")
        text = _SETTINGS.format(port=self.port)
        await fs.write_text("/etc/ssh/sshd_config.d/carthage.conf", text)

    @machine_task("make host keys")
    async def make_host_keys(self, machine: Served) -> None:
        """Make the host keys that the machine does not have."""
        await machine.run(["ssh-keygen", "-A"])

    @machine_task("let the keys in")
    async def authorize(self, machine: Served) -> None:
        """Add the keys to the user's own."""
        lines = self.authorized_keys or [await _layout_key(machine)]
        await machine.run(
            _AUTHORIZE.format(user=shlex.quote(self.user)),
            input="".join(f"{line.strip()}\n" for line in lines),
        )

    @machine_task("start the SSH server")
    async def start(self, machine: Served) -> None:
        """Start it anew: a systemd that booted without host keys has given it up."""
        await machine.run(_START)
        await _know(machine, machine, self.port)

    async def welcome(self, own: Served, newcomer: Served) -> None:
        """Have another machine know the host keys."""
        await _know(own, newcomer, self.port)


class Housed(Protocol):
    """A live layout."""

    @property
    def folder(self) -> Path:
        """Its private folder."""
        ...


def ssh_key(layout: Housed) -> Path:
    """The private key that lets in at the :class:`SshServer`\\ s of a live layout.

    It is a file of the host, for ``ssh -i`` there or ``machine.put(...)``; its public half lies
    beside it, with ``.pub``. It lives as long as the layout.

    :raises LookupError: no server has made it: there is none, or each was given keys.
    """
    path = layout.folder / "ssh" / _KEY
    if not path.exists():
        raise LookupError(
            f"{layout!r} has no SSH key: no machine has the role SshServer() without "
            "authorized_keys=; try: roles=[SshServer()]"
        )
    return path


async def _layout_key(machine: Served) -> str:
    """The public half of the layout's key, which the first server makes."""
    folder = machine.surroundings.folder / "ssh"
    if not folder.exists():
        made = (await machine.run(_MAKE_KEY, secret=True)).stdout
        private, _, public = made.partition("\0")
        _keep(folder, private, public)
    return (folder / f"{_KEY}.pub").read_text()


def _keep(folder: Path, private: str, public: str) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, ignore_cleanup_errors=True) as name:
        new = Path(name) / "ssh"
        new.mkdir(mode=0o700)
        key = new / _KEY
        key.touch(mode=0o600)
        key.write_text(private)
        key.with_suffix(".pub").write_text(public)
        with contextlib.suppress(OSError):  # another server was faster, and its key stands
            new.rename(folder)


async def _know(own: Served, newcomer: Served, port: int) -> None:
    if not await newcomer.exists("/etc/ssh"):
        return  # it has no client
    names = known_names(own)
    pattern = ",".join(names if port == 22 else [f"[{name}]:{port}" for name in names])
    keys = (await own.run("cat /etc/ssh/ssh_host_*_key.pub")).lines
    lines = [f"{pattern} {' '.join(key.split()[:2])}" for key in keys]
    path = "/etc/ssh/ssh_known_hosts"
    hosts = await newcomer.read_text(path) if await newcomer.exists(path) else ""
    kept = [line for line in hosts.splitlines() if not line.startswith(f"{pattern} ")]
    await newcomer.write_text(path, "".join(f"{line}\n" for line in (*kept, *lines)))


_AUTHORIZE = """\
set -e
home=$(getent passwd {user} | cut -d: -f6)
test -n "$home" || {{ echo "there is no user" {user} >&2; exit 1; }}
umask 077
mkdir -p "$home/.ssh"
cat >> "$home/.ssh/authorized_keys"
chown -R {user}: "$home/.ssh"
"""

_MAKE_KEY = """\
set -e
umask 077
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
ssh-keygen -q -t ed25519 -N '' -C carthage -f "$folder/key"
cat "$folder/key"
printf '\\0'
cat "$folder/key.pub"
"""

_START = """\
[ ! -d /run/systemd/system ] || systemctl reset-failed ssh 2>/dev/null
exec service ssh restart
"""
