"""A host of a rack, as tests see it: an sshd over a copy of this host's files, on no network.

It lives in namespaces of its own, above an overlay of this host's root, and is reached by a command
(``ProxyCommand`` of ssh_config(5)): nothing of it touches a network. It needs root.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_carthage import Ssh

__all__ = ["LEASE", "Rack", "rack"]

#: where a lease lies
LEASE = "/run/lock/pytest-carthage.lease"

_START = """\
set -e
folder=$1 name=$2
mkdir -p "$folder/root" "$folder/tmp"
mount -t tmpfs -o size=64m rack "$folder/tmp"
mkdir "$folder/tmp/upper" "$folder/tmp/work"
mount -t overlay -o "lowerdir=/,upperdir=$folder/tmp/upper,workdir=$folder/tmp/work" \\
    rack "$folder/root"
root=$folder/root
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o size=1m,mode=755 run "$root/run"
mkdir -p -m 755 "$root/run/sshd"
mkdir -m 1777 "$root/run/lock"
mount -t tmpfs -o size=4m,mode=1777 tmp "$root/tmp"
ip link set lo up
hostname "$name"
printf '127.0.0.1 localhost\\n127.0.1.1 %s\\n' "$name" > "$root/etc/hosts"
for file in host_key keys_root sshd_config; do
    cp "$folder/$file" "$root/etc/ssh/rack_$file"
done
chmod 600 "$root/etc/ssh/rack_host_key"
rm -f "$root"/root/.bashrc "$root"/root/.profile "$root"/root/.bash_profile
exec chroot "$root" sh -c 'cd /; echo ready; exec >&2
while :; do sleep 3600 & wait $!; done' > "$folder/ready"
"""
_CONFIG = """\
HostKey /etc/ssh/rack_host_key
AuthorizedKeysFile /etc/ssh/rack_keys_%u
StrictModes no
PermitRootLogin yes
UsePAM no
PasswordAuthentication no
"""
_ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


@dataclass(kw_only=True)
class Rack:
    """A host that exists, until :meth:`vanish`."""

    folder: Path
    pid: int

    @property
    def identity(self) -> str:
        """File of the key that it lets in."""
        return str(self.folder / "client")

    @property
    def host_key(self) -> str:
        """Its public key."""
        return " ".join((self.folder / "host_key.pub").read_text().split()[:2])

    @property
    def fingerprint(self) -> str:
        """That of its key."""
        return subprocess.run(
            ["ssh-keygen", "-lf", str(self.folder / "host_key.pub")],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()[1]

    @property
    def reach(self) -> Sequence[str]:
        """What runs a command of this host inside of it, beside ssh."""
        return [
            *("nsenter", "--target", str(self.pid), "--mount", "--net", "--pid", "--uts"),
            *("--root", "--wd", "--"),
        ]

    @property
    def proxy_command(self) -> str:
        """The command that leads to its sshd."""
        sshd = ["/usr/sbin/sshd", "-i", "-f", "/etc/ssh/rack_sshd_config"]
        return " ".join([*self.reach, *sshd])

    def settings(self, **changes: Any) -> Ssh:
        """What a machine tells its target to be this host."""
        values: dict[str, Any] = {
            "user": "root",
            "proxy_command": self.proxy_command,
            "identity": self.identity,
            "host_key": self.host_key,
            "config": os.devnull,
            **changes,
        }
        return Ssh("db1.lab", **values)

    def run(self, command: str, *, check: bool = True, input: str = "") -> str:
        """Run a command in it, beside ssh; returns what it prints."""
        return subprocess.run(
            [*self.reach, "sh", "-c", command],
            env=_ENV,
            check=check,
            input=input,
            capture_output=True,
            text=True,
        ).stdout

    def processes(self) -> list[str]:
        """Command lines of what runs in it, beside what asks."""
        lines = self.run("ps -eo args=").splitlines()
        return [
            line
            for line in lines
            if not line.startswith(("sleep 3600", "sh -c cd /", "ps -eo", "sh -c ps"))
        ]

    def listing(self) -> list[str]:
        """All that was ever written to its file systems, or removed from them."""
        places = [f"{self.folder}/tmp/upper", f"{self.folder}/root/run", f"{self.folder}/root/tmp"]
        outside = [word for word in self.reach if word not in ("--root", "--wd")]
        find = ["find", *places, "-printf", "%p %y %m %U %s %l\\n"]
        found = subprocess.run(
            [*outside, *find], env=_ENV, check=True, capture_output=True, text=True
        ).stdout
        return sorted(line.removeprefix(str(self.folder)) for line in found.splitlines())

    def write(self, path: str, text: str) -> None:
        """Write a program into it."""
        subprocess.run(
            [*self.reach, "sh", "-c", f"cat > {path}; chmod 755 {path}"],
            env=_ENV,
            input=text,
            text=True,
            check=True,
        )

    def add_user(self, name: str, password: str, *, may: str = "", has_key: bool = True) -> None:
        """Make a user there.

        :param may: what sudoers(5) says of him; empty: nothing.
        :param has_key: the key that leads into this host leads to him, too.
        """
        self.run(f"useradd -m -s /bin/sh {name}")
        self.set_password(name, password)
        if may:
            self.run(f"echo '{name} {may}' > /etc/sudoers.d/{name}")
        if has_key:
            self.run(f"cp /etc/ssh/rack_keys_root /etc/ssh/rack_keys_{name}")

    def set_password(self, name: str, password: str) -> None:
        """Give a user a password; no command line has it, as tests look whether any does."""
        self.run("chpasswd", input=f"{name}:{password}\n")

    def install_sudo(self) -> str:
        """Have sudo there, by Debian's package; returns why it cannot be, or nothing."""
        if self.run("command -v sudo", check=False):
            return ""
        (archives := self.folder / "archives").mkdir()
        fetched = subprocess.run(
            ["apt-get", "download", "-qq", "sudo"], cwd=archives, capture_output=True, text=True
        )
        if fetched.returncode:
            return f"sudo cannot be fetched: {fetched.stderr.strip()}"
        (archive,) = archives.iterdir()
        files = subprocess.run(
            ["dpkg-deb", "--fsys-tarfile", str(archive)], check=True, capture_output=True
        ).stdout
        tar = ["tar", "-C", "/", "-x", "--keep-directory-symlink", "-f", "-"]
        subprocess.run([*self.reach, *tar], input=files, check=True, env=_ENV)
        return ""

    def hide(self, *programs: str) -> None:
        """Take programs away, wherever they are."""
        for program in programs:
            self.run(f'while path=$(command -v {program}); do rm -f "$path"; hash -r; done')

    def reboot(self) -> None:
        """End all that runs there, empty /run, and be in another boot."""
        self.run(
            "rm -rf /run/lock/* && cat /proc/sys/kernel/random/uuid > /run/boot_id && "
            "mount --bind /run/boot_id /proc/sys/kernel/random/boot_id"
        )
        self.run("kill -9 -1", check=False)

    def hang(self) -> None:
        """Stop all that runs there: nothing answers, and nothing is closed."""
        self.run("kill -STOP -1", check=False)

    def go_on(self) -> None:
        """After :meth:`hang`."""
        self.run("kill -CONT -1", check=False)
        # nsenter(1) stops itself with what it has started
        words = b"\0--target\0%d\0" % self.pid
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if words in (process / "cmdline").read_bytes():
                    os.kill(int(process.name), signal.SIGCONT)

    def vanish(self) -> None:
        """Pull its plug."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def make_keys(folder: Path) -> None:
    """Keys of a host, and of who comes."""
    for name in ("host_key", "client"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)],
            check=True,
            stdin=subprocess.DEVNULL,
        )
    (folder / "keys_root").write_text((folder / "client.pub").read_text())


@contextlib.contextmanager
def rack(folder: Path, *, name: str = "db1", config: str = "") -> Iterator[Rack]:
    """A host, for the time of a block.

    :param name: what it calls itself.
    :param config: more of its sshd_config(5).
    """
    folder.mkdir(exist_ok=True)
    make_keys(folder)
    (folder / "sshd_config").write_text(config + _CONFIG)
    os.mkfifo(folder / "ready")
    # with whoever has it: a session that is killed closes nothing
    end = ["setpriv", "--pdeathsig", "KILL"]
    unshare = [
        *end,
        "unshare",
        "--mount",
        "--net",
        "--pid",
        "--uts",
        "--ipc",
        "--fork",
        "--kill-child",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*unshare, "sh", "-c", _START, "sh", str(folder), name],
            env=_ENV,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        reading = os.open(folder / "ready", os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(reading, True)
        with os.fdopen(reading) as ready:
            _until_open(process, folder)
            assert ready.readline() == "ready\n", (folder / "log").read_text()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield Rack(folder=folder, pid=int(children[0]))
    finally:
        process.kill()
        process.wait()


def _until_open(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait until the other end of its pipe is open, or it has ended."""
    poll = select.poll()
    fd = os.open(folder / "ready", os.O_RDONLY | os.O_NONBLOCK)
    try:
        poll.register(fd, select.POLLIN)
        for _ in range(200):
            if poll.poll(100):
                return
            assert process.poll() is None, (folder / "log").read_text()
    finally:
        os.close(fd)
    raise AssertionError("the rack did not start")
