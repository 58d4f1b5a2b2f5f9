"""How the fabric makes a machine: its network, and the forked child that becomes it.

The fabric makes the network namespaces, the links and their configuration. A child that is
forked into such a namespace leaves for the others, enters its file system, and serves.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_carthage.fabric import (
    bounds,
    inheritance,
    limits,
    links,
    netlink,
    refusals,
    rootfs,
    seccomp,
    shares,
)
from pytest_carthage.fabric import syscalls as sys_
from pytest_carthage.fabric.agent import Agent
from pytest_carthage.fabric.container import groups, naming
from pytest_carthage.fabric.main_process import MainProcess
from pytest_carthage.fabric.namespaces import become_root
from pytest_carthage.fabric.output import Output

if TYPE_CHECKING:
    from pytest_carthage.fabric.shares import Shares
    from pytest_carthage.fabric.spec import LinkSpec, MachineSpec
    from pytest_carthage.fabric.wire.control import Control


def fork(body: Callable[[], None], *, keep: Iterable[int]) -> int:
    """Fork a child that runs ``body`` and ends; returns its process id.

    Of our descriptors it has the standard ones and ``keep``: all others are closed, however
    many machines there are.
    """
    pid = sys_.fork()
    if pid:
        return pid
    status = 1
    try:
        gc.freeze()
        signal.set_wakeup_fd(-1)
        inheritance.put_off_signals()
        sys_.close_all_but((0, 1, 2, *keep))
        body()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def configure_network(spec: MachineSpec) -> None:
    """Configure the network namespace that the caller is in, for a machine whose links are there.

    :raises OSError: the kernel refused, named in the message.
    """
    set_forwarding(spec)
    links.build(spec["links"])
    batch = netlink.Batch()
    batch.up("lo")
    for address in spec["loopback"]:
        batch.address("lo", address, again=True)
    set_up_links(batch, spec, spec["links"])
    batch.commit()


def set_up_links(
    batch: netlink.Batch, spec: MachineSpec, which: Iterable[LinkSpec], *, again: bool = False
) -> None:
    """Set links of a machine up, with their addresses and all of the machine's routes."""
    # all addresses before the first route: a route's next hop must be on a link
    down = links.those_down(spec["links"])
    for link in links.lowest_first(spec["links"]):
        if link in which:
            up, forward = link["interface"] not in down, spec["forward"]
            links.configure(batch, link, up=up, forward=forward, again=again)
    for route in links.routes(spec):
        batch.route(
            route["destination"],
            route["via"],
            route["interface"],
            route["metric"],
            again=again,
            onlink=route["onlink"],
        )


def _set(name: str, value: str) -> None:
    with open(f"/proc/sys/net/{name}", "w") as file:
        file.write(value)


def set_forwarding(spec: MachineSpec) -> None:
    """Set the kernel's switches of the network namespace that the caller is in."""
    for last in (2147483647, 65535, 0):
        try:
            _set("ipv4/ping_group_range", f"0 {last}")
        except OSError:
            if last == 0:
                raise
            continue  # a user namespace knows only its own groups
        break
    # a new namespace has the host's setting (ip-sysctl: devconf_inherit_init_net)
    _set("ipv4/ip_forward", "1" if spec["forward"] else "0")
    if spec["forward"]:
        try:
            _set("ipv6/conf/all/forwarding", "1")
        except FileNotFoundError:
            pass  # a kernel without IPv6


def become_process(
    spec: MachineSpec,
    control: Control,
    log: int,
    *,
    hosts: str,
    template: str | None,
    is_new: bool,
    own: Shares | None,
) -> NoReturn:
    """Child, PID 1 of a new PID namespace: a whole machine over the host's file system.

    It is in its network namespace already. Without a ``template`` it is the host's root.

    :param is_new: the machine has never been started.
    """
    try:
        os.setsid()
        os.dup2(log, 1)
        os.dup2(log, 2)
        admission = limits.Admission()
        if spec["limits"] is not None:
            limits.enter(spec["control_group"], spec["limits"])
            admission = limits.step_aside(spec["control_group"], spec["limits"])
            shares.take_processors(spec)
        sys_.unshare(sys_.CLONE_NEWNS | sys_.CLONE_NEWUTS | sys_.CLONE_NEWIPC)
        socket.sethostname(spec["hostname"])
        output = Output(spec["log"])
        if own is not None:
            own.mount()
            control.send({"step": "mounted"})
        rootfs.enter(
            machine=spec["name"],
            is_new=is_new,
            hostname=spec["hostname"],
            hosts=hosts,
            resolv=spec["resolv"],
            template=template,
            memory_mib=limits.memory_mib(spec),
            own=own,
        )
        output.show()
        os.chdir("/")
        os.umask(0o022)
        sys_.leave_keyring()
        agent = Agent(env=spec["env"], admission=admission)
        # it has memory and environment of the host's, and its arguments tell of it
        sys_.be_looked_into(False)
        sys_.set_command_line("carthage-agent")
        refusals.enter(groups=False)
        if template is None:
            bounds.enter(network=True)
        serve_as_first(spec, agent, control, log)
    except OSError as error:
        control.send({"step": "failed", "error": str(error)})
        os._exit(1)


def serve_as_first(spec: MachineSpec, agent: Agent, control: Control, log: int) -> NoReturn:
    """Be a machine's first process: start the main one, answer for the machine, and end with it.

    :param log: what the main one prints to.
    :raises OSError: the main process cannot be started, or ended at once.
    :raises LookupError: the machine has no such user.
    """
    main = MainProcess(spec, control, log, agent)
    main.start()
    agent.on_other_child = main.child_ended
    control.send({"step": "ready"})
    if log > 2:
        os.set_inheritable(log, False)
    sys_.set_process_name(f"cg:{spec['name']}")
    agent.serve(control.sock, main.told)
    os._exit(0)


def become_guest(message: Mapping[str, Any], control: Control) -> None:
    """Child: enter the container whose first process is ``pid``, and serve there.

    Order matters: control groups, filters and capabilities are read while /proc and /sys are
    still the fabric's, the mount namespace comes last.
    """
    pid = message["pid"]
    try:
        with open(f"/proc/{pid}/status") as file:
            status = dict(line.split(":\t", 1) for line in file if ":\t" in line)
        if message.get("control_group"):  # a machine of the fabric's own
            groups.join(message["control_group"], groups.AGENT, controllers=True)
            groups.leave_others(message["control_group"])
            admission = limits.step_aside(
                message["control_group"], message["limits"], has_init=True
            )
            filters, unfiltered = list[bytes](), ""
        else:
            admission = _join_control_groups(pid)
            filters, unfiltered = _filters(status)
        # its number is another's where we are already
        os.sched_setaffinity(0, shares.listed(status["Cpus_allowed_list"]))
        files = inheritance.FILES
        is_apart = os.stat(f"/proc/{pid}/ns/user").st_ino != os.stat("/proc/self/ns/user").st_ino
        namespaces = [
            (sys_.CLONE_NEWUTS, "uts"),
            (sys_.CLONE_NEWIPC, "ipc"),
            (sys_.CLONE_NEWNET, "net"),
            (sys_.CLONE_NEWCGROUP, "cgroup"),
            (sys_.CLONE_NEWNS, "mnt"),
        ]
        if is_apart:
            # last: it takes the rights over all others away
            namespaces = [
                (sys_.CLONE_NEWTIME, "time"),
                *namespaces,
                (sys_.CLONE_NEWUSER, "user"),
            ]
        else:
            files = inheritance.take_over(pid)
        opened = [
            (kind, os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC))
            for kind, name in namespaces
            # one that it shares with us may be nobody's here to enter
            if not os.path.samefile(f"/proc/{pid}/ns/{name}", f"/proc/self/ns/{name}")
        ]
        for kind, fd in opened:
            sys_.setns(fd, kind)
            os.close(fd)
        if is_apart:
            become_root()
        sys_.be_looked_into(False)  # it has memory of the host's
        sys_.set_command_line("carthage-agent")  # and its arguments tell of the host
        if is_apart and os.fork():
            # its init is its parent then, and hears of its end: systemd waits for that
            os._exit(0)
        os.setsid()
        os.chdir("/")
        os.umask(0o022)
        agent = Agent(
            env=message.get("env", {}),
            user=message.get("user") or "root",
            files=files,
            admission=admission,
        )
        if status["NoNewPrivs"].strip() == "1":
            sys_.gain_no_privileges()
        # first: it takes a capability
        if message.get("control_group"):
            refusals.enter(groups=True)
        seccomp.put_on(filters)
        # the first process may have dropped capabilities for itself: the bounding set is
        # what the container may have
        sys_.limit_capabilities(int(status["CapBnd"], 16))
        if is_apart and message.get("control_group"):
            naming.follow(agent.server)
    except (OSError, KeyError) as error:
        control.send({"step": "failed", "error": f"attach to process {pid}: {error}"})
        return
    control.send({"step": "ready", "warning": unfiltered, "pid": os.getpid()})
    sys_.set_process_name(f"cg:{message['machine']}")
    agent.serve(control.sock)


def _filters(status: Mapping[str, str]) -> tuple[list[bytes], str]:
    """System call filters of a process in our PID namespace; else why they cannot be read."""
    if status["Seccomp"].strip() == "0":
        return [], ""
    try:
        return seccomp.filters(int(status["NSpid"].split()[-1])), ""
    except OSError as error:  # by a filter around us, or a kernel without CHECKPOINT_RESTORE
        return [], f"its commands run without its system call filter, which is closed: {error}"


def _join_control_groups(pid: int) -> limits.Admission:
    """Be in the control groups of a process, but for one that bounds memory."""
    admission = limits.Admission()
    with open(f"/proc/{pid}/cgroup") as file:
        lines = [line.rstrip("\n").split(":", 2) for line in file]
    for _, controllers, path in lines:
        for folder in _mounts_of(controllers):
            try:
                if limits.bounds_memory(f"{folder}{path}"):
                    procs = os.open(f"{folder}{path}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
                    admission = limits.Admission([procs])
                    break
                with open(f"{folder}{path}/cgroup.procs", "w") as procs_file:
                    procs_file.write("0")
            except OSError:
                continue
            break
    return admission


def _mounts_of(controllers: str) -> list[str]:
    if not controllers:
        return ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
    names = controllers.removeprefix("name=")
    return [f"/sys/fs/cgroup/{names}", *(f"/sys/fs/cgroup/{n}" for n in names.split(","))]
