"""By which way a virtual machine is asked: what its image has decides, before it boots."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pytest_carthage.channels.far.deputy import deputy_by_stream
from pytest_carthage.channels.guest_agent import deputy_by_guest_agent
from pytest_carthage.channels.ssh.deputy import deputy_by_ssh
from pytest_carthage.channels.ssh.way import Way
from pytest_carthage.errors import CreationError, FabricError
from pytest_carthage.images.exports.boot.merged import locate
from pytest_carthage.images.seeds.host_keys import host_key_files
from pytest_carthage.images.seeds.values import FileInSeed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_carthage.images.exports.disks.values import BootDisk
    from pytest_carthage.model.vm import Vm
    from pytest_carthage.planning.plan import PlannedMachine
    from pytest_carthage.provider import Context
    from pytest_carthage.providers.libvirt.domain import Places
    from pytest_carthage.store.built import Built

__all__ = [
    "WORDS",
    "Entry",
    "Kind",
    "Login",
    "choose",
    "entry_of",
    "let_in",
    "missing",
    "read_entry",
]

Kind = Literal["agent", "ssh", "guest-agent"]

#: what people are told of who does not answer
WORDS = {"agent": "its agent", "ssh": "its sshd", "guest-agent": "QEMU's guest agent in it"}
_WHOLE_PYTHONS = ("usr/local/bin/python3", "usr/libexec/platform-python")
_PYTHON = "usr/bin/python3"
_LIBRARIES = ("usr/lib", "usr/lib64")
#: of Python's own modules, one that the agent needs and Debian's python3-minimal has not
_NEEDED = "python3*/lib-dynload/resource.*"
_SSHDS = ("usr/sbin/sshd", "usr/local/sbin/sshd", "usr/bin/sshd")
_GUEST_AGENTS = ("usr/sbin/qemu-ga", "usr/bin/qemu-ga", "usr/local/bin/qemu-ga")
_AUTHORIZED = "root/.ssh/authorized_keys"
_HOST_KEY = "etc/ssh/ssh_host_ed25519_key"
#: taken while an environment's pair of keys is made
_making = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What makes a machine let us in by ssh, and be known by it."""

    #: by which we come in as root: a line of authorized_keys
    key: str
    #: of its sshd
    host_keys: Mapping[str, FileInSeed]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The ways into one machine: the first, and others if its console tells it is not there."""

    kinds: tuple[str, ...]
    #: how ssh goes there, where that is one
    ssh: Way | None = None
    login: Login | None = None
    #: of what is run in it, its image's included
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_agent(self) -> bool:
        """Whether our agent is to run in it."""
        return "agent" in self.kinds

    def command(self, kind: str, places: Places) -> Sequence[str]:
        """The command of a deputy that reaches it by a way."""
        if kind == "guest-agent":
            return deputy_by_guest_agent(places.guest_agent, env=self.env)
        if kind == "ssh":
            assert self.ssh is not None
            return deputy_by_ssh(self.ssh, env=self.env, shown="ssh")
        return deputy_by_stream(unix=places.agent, window=places.seed, env=self.env)

    def write(self, places: Places) -> None:
        """Have other processes know it."""
        ssh = None if self.ssh is None else self.ssh.as_record()
        record = {"kinds": self.kinds, "ssh": ssh, "env": dict(self.env)}
        places.way.write_text(json.dumps(record))


def read_entry(places: Places) -> Entry:
    """The ways into a machine that stands."""
    try:
        record: dict[str, Any] = json.loads(places.way.read_text())
    except FileNotFoundError:
        return Entry(kinds=("agent",))
    ssh = record["ssh"]
    return Entry(
        kinds=tuple(record["kinds"]),
        ssh=None if ssh is None else Way.from_record(ssh),
        env=record["env"],
    )


def choose(vm: Vm, trees: Sequence[Path], *, is_cloud: bool = False) -> tuple[str, ...]:
    """The ways into a machine with these files, the first to be tried first.

    :param trees: folders of its image, the top first.
    :param is_cloud: cloud-init configures it: its own user and keys are given by us anyway.
    :raises CreationError: there is none, or not the one that is wanted; with all three.
    """
    lacking = {
        "agent": _why_no_agent(trees),
        "ssh": "" if _has(trees, _SSHDS) else "it has no sshd",
        "guest-agent": "" if _has(trees, _GUEST_AGENTS) else "it has no qemu-ga",
    }
    having = tuple(kind for kind, why in lacking.items() if not why)
    if vm.way is not None:
        if vm.way in having:
            return (vm.way,)
        others = f"; it can be asked by way={having[0]!r}" if having else ""
        raise CreationError(
            f"it is to be asked by way={vm.way!r}, and {lacking[vm.way]}{others}; try: "
            f"{_REMEDIES[vm.way]}"
        )
    if not having:
        whys = ", ".join(f"{kind}: {why}" for kind, why in lacking.items())
        raise CreationError(
            f"nobody in it can be asked for anything ({whys}); try: "
            + ", or ".join(_REMEDIES.values())
        )
    return having if is_cloud and having[0] == "agent" else having[:1]


_REMEDIES = {
    "agent": 'an image with python3, as packages=["python3"], of which python3-minimal is not '
    "enough",
    "ssh": 'packages=["openssh-server"]',
    "guest-agent": 'packages=["qemu-guest-agent", "udev"]',
}


def _has(trees: Sequence[Path], names: Sequence[str]) -> bool:
    return any(locate(trees, name) is not None for name in names)


def _why_no_agent(trees: Sequence[Path]) -> str:
    if _has(trees, _WHOLE_PYTHONS):
        return ""
    if locate(trees, _PYTHON) is None:
        return "it has no python3"
    if any(any((tree / library).glob(_NEEDED)) for tree in trees for library in _LIBRARIES):
        return ""
    return "it has python3-minimal alone, without the module resource"


def missing() -> str:
    """What this host lacks to reach machines by ssh; empty: nothing."""
    return "" if importlib.util.find_spec("asyncssh") else "asyncssh is not installed"


async def entry_of(
    planned: PlannedMachine, vm: Vm, built: Built, base: BootDisk, context: Context, keys: Path
) -> Entry:
    """Choose the ways into a machine, and prepare them.

    :param keys: folder for the key pair of the environment.
    :raises CreationError: there is none, with what to do.
    """
    is_own = base.path == built.image.path  # a disk as it is, which nobody tells anything
    is_cloud = base.seed == "cloud-init"
    if is_own and not is_cloud and vm.way is None:
        is_there = _has(built.lower, _GUEST_AGENTS)
        return Entry(kinds=("guest-agent" if is_there else "agent",))
    kinds = choose(vm, built.lower, is_cloud=is_cloud)
    if kinds[1:]:  # those that may never be wanted
        is_reached = _address_of(planned) is not None and not missing()
        kinds = tuple(kind for kind in kinds if kind != "ssh" or is_reached)
        kinds = tuple(kind for kind in kinds if kind != "guest-agent")
    if "ssh" not in kinds:
        return Entry(kinds=kinds)
    if lacking := missing():
        raise CreationError(
            f"it is to be asked by ssh, and {lacking}; try: pip install 'pytest-carthage[ssh]'"
        )
    login = await asyncio.to_thread(_login, built, keys, planned.hostname)
    return Entry(kinds=kinds, ssh=await _way(planned, context, keys, login), login=login)


def _address_of(planned: PlannedMachine) -> tuple[str, str] | None:
    """An address that the machine has in any case, and the network where it has it."""
    for link in planned.links:
        if link.bridge and link.addresses:
            return str(link.addresses[0].ip), link.network
    return None


async def _way(planned: PlannedMachine, context: Context, keys: Path, login: Login) -> Way:
    place = _address_of(planned)
    if place is None:
        raise CreationError(
            "it is to be asked by ssh, and no address of it is known before it boots; try: a link "
            'with an address, as lan.at(".10"), or python3 in its image'
        )
    address, network = place
    try:
        station = await context.station(network)
    except (LookupError, FabricError) as error:
        raise CreationError(f"it is to be asked by ssh, and {error}") from error
    public = login.host_keys[f"{_HOST_KEY}.pub"].data.decode().strip()
    return Way(
        host=address,
        user="root",
        config=(),
        identity=str(keys / "id_ed25519"),
        host_key=" ".join(public.split()[:2]),
        inside=(str(context.folder / "fabric.sock"), station),
    )


def _login(built: Built, keys: Path, hostname: str) -> Login:
    """What lets us into a machine; the pair of keys is made for the environment's first one."""
    import asyncssh

    def new(comment: str) -> tuple[bytes, bytes]:
        key = asyncssh.generate_private_key("ssh-ed25519", comment=comment)
        return key.export_private_key("openssh"), key.export_public_key("openssh")

    own = keys / "id_ed25519"
    with _making:
        if not own.exists():
            private, public = new("pytest-carthage")
            own.with_suffix(".pub").write_bytes(public)
            own.touch(mode=0o600)
            own.write_bytes(private)
    host_keys = dict(host_key_files(hostname))
    if f"{_HOST_KEY}.pub" not in host_keys:  # this host has no ssh-keygen
        private, public = new(hostname)
        host_keys[_HOST_KEY] = FileInSeed(data=private, mode=0o600)
        host_keys[f"{_HOST_KEY}.pub"] = FileInSeed(data=public)
    ours = own.with_suffix(".pub").read_text().strip()
    return Login(key=ours, host_keys=host_keys)


def let_in(trees: Sequence[Path], keys: Sequence[str]) -> dict[str, FileInSeed]:
    """The file of a machine's that lets root in by these keys, and by those that its image has."""
    if not keys:
        return {}
    lines = "".join(f"{key}\n" for key in (*_authorized(trees), *keys))
    return {_AUTHORIZED: FileInSeed(data=lines.encode(), mode=0o600)}


def _authorized(trees: Sequence[Path]) -> list[str]:
    """Who may come in as root already; links that lead out of the image are not followed."""
    path = locate(trees, _AUTHORIZED)
    if path is None or not path.is_file():
        return []
    if not any(path.resolve().is_relative_to(tree.resolve()) for tree in trees):
        return []
    return path.read_text(errors="replace").splitlines()
