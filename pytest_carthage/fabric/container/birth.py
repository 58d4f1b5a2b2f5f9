"""The processes of a system container: the first one, and the agent beside an init."""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from typing import TYPE_CHECKING, NoReturn

from pytest_carthage.fabric import birth, bounds, inheritance, limits, refusals, roots, shares
from pytest_carthage.fabric import syscalls as sys_
from pytest_carthage.fabric.agent import Agent
from pytest_carthage.fabric.container import etc, groups, mounts, naming
from pytest_carthage.fabric.container.users import Domain
from pytest_carthage.fabric.namespaces import become_root

if TYPE_CHECKING:
    from pytest_carthage.fabric.shares import Shares
    from pytest_carthage.fabric.spec import MachineSpec, RootSpec
    from pytest_carthage.fabric.wire.control import Control

_NAMESPACES = (
    sys_.CLONE_NEWNS
    | sys_.CLONE_NEWUTS
    | sys_.CLONE_NEWIPC
    | sys_.CLONE_NEWPID
    | sys_.CLONE_NEWCGROUP
)
_NUMBER = struct.Struct("i")


def bear(
    spec: MachineSpec,
    domain: Domain,
    control: Control,
    log: int,
    *,
    hosts: str,
    is_new: bool,
    own: Shares | None,
) -> int:
    """Start the first process of a system container; returns its process id.

    It is born by a process that has entered the container's user namespace: the namespaces that are
    made there belong to it.

    :param is_new: the machine has never been started.
    :param own: what tells of what it has of the host; None: that has all.
    :raises OSError: the kernel refused.
    """
    root = spec.get("root")
    assert root is not None
    owner = root["ids"][0]
    if root["init"] and not groups.is_delegated():
        raise OSError("its init needs a control group, and none was delegated to this user")
    told, tell = os.pipe2(os.O_CLOEXEC)

    def enter() -> None:
        try:
            if spec["limits"] is not None:
                limits.enter(spec["control_group"], spec["limits"])
            shares.take_processors(spec)
            groups.join(spec["control_group"], controllers=bool(root["init"]))
            groups.leave_others(spec["control_group"])
            admission = limits.Admission()
            if not root["init"]:
                admission = limits.step_aside(spec["control_group"], spec["limits"])
            mounts.prepare(f"{roots.FOLDER}/{spec['name']}", owner)
            if own is not None:
                own.mount()
                control.send({"step": "mounted"})
            sys_.setns(domain.users, sys_.CLONE_NEWUSER)
            become_root()
            sys_.setns(domain.network, sys_.CLONE_NEWNET)
            sys_.unshare(_NAMESPACES)
            _begin_clocks()
            pid = birth.fork(
                lambda: _become_first(
                    spec, control, log, hosts=hosts, is_new=is_new, own=own, admission=admission
                ),
                keep=(control.fileno(), log, *admission.descriptors),
            )
            os.write(tell, _NUMBER.pack(pid))
        except OSError as error:
            os.write(tell, str(error).encode())

    keep = [domain.users, domain.network, control.fileno(), log, tell]
    helper = birth.fork(enter, keep=[*keep, *([own.fd] if own is not None else [])])
    os.close(tell)
    try:
        word = os.read(told, 4096)
    finally:
        os.close(told)
        os.waitpid(helper, 0)
    if len(word) != _NUMBER.size:
        raise OSError(word.decode(errors="replace") or "its first process was not born")
    number: int = _NUMBER.unpack(word)[0]
    return number


def _begin_clocks() -> None:
    """Have clocks that count from a boot begin now for children, see time_namespaces(7)."""
    try:
        sys_.unshare(sys_.CLONE_NEWTIME)
        text = "".join(
            f"{name} {-int(time.clock_gettime(number))} 0\n"
            for name, number in (
                ("monotonic", time.CLOCK_MONOTONIC),
                ("boottime", time.CLOCK_BOOTTIME),
            )
        )
        sys_.be_looked_into(True)
        with open("/proc/self/timens_offsets", "w") as file:
            file.write(text)
    except OSError:
        pass  # a kernel without: its uptime is the host's
    finally:
        # this process, and an agent after it, has memory of the host's
        sys_.be_looked_into(False)


def _become_first(
    spec: MachineSpec,
    control: Control,
    log: int,
    *,
    hosts: str,
    is_new: bool,
    own: Shares | None,
    admission: limits.Admission,
) -> None:
    root: RootSpec | None = spec.get("root")
    assert root is not None
    try:
        os.setsid()
        os.umask(0o022)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys_.leave_keyring()
        socket.sethostname(spec["hostname"])
        mounts.enter(
            f"{roots.FOLDER}/{spec['name']}",
            is_strict=root["strict"],
            boots=bool(root["init"]),
            memory_mib=limits.memory_mib(spec),
            own=own,
        )
        sys_.drop_from_bounds(bounds.IN_VAIN.values())
        refusals.enter(groups=True)
        if is_new:
            etc.write(hostname=spec["hostname"], hosts=hosts, resolv=spec["resolv"])
        etc.write_for_init(root["files"])
        if root["init"]:
            _become_init(spec, root["init"], control)
        _print_to_fabric(spec, control)
        sys_.set_command_line("carthage-agent")
        agent = Agent(env=spec["env"], admission=admission)
        naming.follow(agent.server)
        birth.serve_as_first(spec, agent, control, 1)
    except (OSError, LookupError) as error:
        control.send({"step": "failed", "error": str(error)})
        os._exit(1)


def _print_to_fabric(spec: MachineSpec, control: Control) -> None:
    """Print to a pipe of the machine's, which any of its programs may open, and not to a file."""
    env = {"container": "lxc", **spec["env"]}
    path = mounts.show_first(env)
    printed = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    output = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    control.send({"step": "printed"}, (printed,))
    os.close(printed)
    for number in (1, 2):
        os.dup2(output, number)
    os.close(output)


def _become_init(spec: MachineSpec, argv: list[str], control: Control) -> NoReturn:
    """Become the machine's init, whose console and whose readiness are told to the fabric."""
    outer, inner = mounts.make_console()
    # of the machine's network, so that no other machine's init has the same
    name = "\0carthage-notify"
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    notify.bind(name)
    for step, fd in (("outer", outer), ("inner", inner), ("notify", notify.fileno())):
        control.send({"step": step}, (fd,))
    env = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "TERM": "vt220",
        # see systemd's "container interface"
        "container": "lxc",
        "NOTIFY_SOCKET": "@" + name[1:],
        **spec["env"],
    }
    for number in range(3):
        os.dup2(inner, number)
    for signal_number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(signal_number, signal.SIG_DFL)
    try:
        with inheritance.few_files():
            os.execve(argv[0], argv, env)
    except OSError as error:
        raise OSError(error.errno, f"its init {argv[0]!r}: {error.strerror}") from error
