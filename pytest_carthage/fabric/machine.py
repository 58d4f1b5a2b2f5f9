"""How the fabric makes a machine: its network, and the forked child that becomes it.

The fabric makes the network namespaces, the links and their configuration. A child that is
forked into such a namespace leaves for the others, enters its file system, and serves.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from pytest_carthage.fabric import limits, links, netlink, rootfs, wire
from pytest_carthage.fabric import syscalls as sys_
from pytest_carthage.fabric.agent import Agent

Spec = Mapping[str, Any]

#: a main process that fails within this time is told as a failed creation
_AT_ONCE_S = 0.02


def fork(body: Callable[[], None], *, keep: Iterable[int]) -> int:
    """Fork a child that runs ``body`` and ends; returns its process id.

    Of our descriptors it has the standard ones and ``keep``: all others are closed, however
    many machines there are.
    """
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        gc.freeze()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        sys_.close_all_but((0, 1, 2, *keep))
        body()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def configure_network(spec: Spec) -> None:
    """Configure the network namespace that the caller is in, for a machine whose links are there.

    :raises OSError: the kernel refused, named in the message.
    """
    set_forwarding(spec)
    links.build(spec["links"])
    batch = netlink.Batch()
    batch.up("lo")
    set_up_links(batch, spec, spec["links"])
    batch.commit()
    if any(link.get("masquerade") for link in spec["links"]) or spec.get("forwards"):
        from pytest_carthage.fabric import nat

        nat.load(spec)


def set_up_links(
    batch: netlink.Batch, spec: Spec, which: Iterable[Mapping[str, Any]], *, again: bool = False
) -> None:
    """Set links of a machine up, with their addresses and all of the machine's routes."""
    # all addresses before the first route: a route's next hop must be on a link
    down = links.those_down(spec["links"])
    for link in links.lowest_first(spec["links"]):
        if link in which:
            up, forward = link["interface"] not in down, bool(spec.get("forward"))
            links.configure(batch, link, up=up, forward=forward, again=again)
    for route in links.routes(spec):
        batch.route(
            route["destination"],
            route.get("via"),
            route.get("interface"),
            route.get("metric"),
            again=again,
            onlink=bool(route.get("onlink")),
        )


def _set(name: str, value: str) -> None:
    with open(f"/proc/sys/net/{name}", "w") as file:
        file.write(value)


def set_forwarding(spec: Spec) -> None:
    """Set the kernel's switches of the network namespace that the caller is in."""
    try:
        _set("ipv4/ping_group_range", "0 2147483647")
    except OSError:
        _set("ipv4/ping_group_range", "0 0")  # a user namespace knows only its own groups
    # a new namespace has the host's setting (ip-sysctl: devconf_inherit_init_net)
    _set("ipv4/ip_forward", "1" if spec.get("forward") else "0")
    if spec.get("forward"):
        try:
            _set("ipv6/conf/all/forwarding", "1")
        except FileNotFoundError:
            pass  # a kernel without IPv6


def become_process(
    spec: Spec,
    control: socket.socket,
    log: int,
    *,
    hosts: str,
    template: str | None,
) -> NoReturn:
    """Child, PID 1 of a new PID namespace: a whole machine over the host's file system.

    It is in its network namespace already.
    """
    try:
        os.setsid()
        os.dup2(log, 1)
        os.dup2(log, 2)
        if spec.get("limits"):
            limits.enter(spec["control_group"], spec["limits"])
        sys_.unshare(sys_.CLONE_NEWNS | sys_.CLONE_NEWUTS | sys_.CLONE_NEWIPC)
        socket.sethostname(spec["hostname"])
        rootfs.enter(
            hostname=spec["hostname"],
            hosts=hosts,
            resolv=spec.get("resolv", ""),
            template=template,
        )
        os.chdir("/")
        os.umask(0o022)
        agent = Agent(env=spec.get("env", {}))
        main = _start_main(spec, log)
        if main is not None:
            _refuse_what_ended(main)
    except OSError as error:
        wire.send(control, {"step": "failed", "error": str(error)})
        os._exit(1)
    agent.on_other_child = lambda pid, status: _main_ended(pid, status, main)
    wire.send(control, {"step": "ready"})
    os.set_inheritable(log, False)
    sys_.set_process_name(f"cg:{spec['name']}")
    agent.serve(control, lambda message: _goodbye(message, main))
    os._exit(0)


def _start_main(spec: Spec, log: int) -> int | None:
    command = spec.get("command")
    if not command:
        return None
    env = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        **spec.get("env", {}),
    }
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    process = subprocess.Popen(
        list(command), stdin=null, stdout=log, stderr=log, env=env, cwd="/", start_new_session=True
    )
    os.close(null)
    process.returncode = 0  # reaped by the agent's loop
    return process.pid


def _refuse_what_ended(main: int) -> None:
    """Refuse a main process that fails at once: nobody meant that.

    :raises OSError: it has ended with a status other than 0.
    """
    fd = os.pidfd_open(main)
    try:
        if select.select([fd], [], [], _AT_ONCE_S)[0]:
            info = os.waitid(os.P_PIDFD, fd, os.WEXITED | os.WNOWAIT)
            if info is not None and info.si_status:
                raise OSError(f"its main process ended at once with status {info.si_status}")
    finally:
        os.close(fd)


def _main_ended(pid: int, status: int, main: int | None) -> None:
    if pid == main:
        code = os.waitstatus_to_exitcode(status)
        print(f"main process ended with status {code}", file=sys.stderr, flush=True)


def _goodbye(message: wire.Message, main: int | None) -> None:
    """Orderly stop: the main process is asked first; the kernel ends the rest with PID 1."""
    if message.get("op") != "terminate":
        return
    if main is not None:
        try:
            os.kill(main, signal.SIGTERM)
            deadline = signal.SIGALRM
            signal.signal(deadline, lambda number, frame: os._exit(0))
            signal.alarm(max(1, int(message.get("timeout_s", 5))))
            os.waitpid(main, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
    os._exit(0)


def become_guest(message: Mapping[str, Any], control: socket.socket) -> None:
    """Child: enter the container whose first process is ``pid``, and serve there.

    Order matters: control groups and capabilities are read while /proc and /sys are still
    the fabric's, the mount namespace comes last.
    """
    pid = message["pid"]
    try:
        with open(f"/proc/{pid}/status") as file:
            status = dict(line.split(":\t", 1) for line in file if ":\t" in line)
        _join_control_groups(pid)
        namespaces = [
            (sys_.CLONE_NEWUTS, "uts"),
            (sys_.CLONE_NEWIPC, "ipc"),
            (sys_.CLONE_NEWNET, "net"),
            (sys_.CLONE_NEWCGROUP, "cgroup"),
            (sys_.CLONE_NEWNS, "mnt"),
        ]
        opened = [
            (kind, os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC))
            for kind, name in namespaces
        ]
        for kind, fd in opened:
            sys_.setns(fd, kind)
            os.close(fd)
        os.setsid()
        os.chdir("/")
        os.umask(0o022)
        agent = Agent(env=message.get("env", {}), user=message.get("user") or "root")
        # the first process may have dropped capabilities for itself: the bounding set is
        # what the container may have
        sys_.limit_capabilities(int(status["CapBnd"], 16))
    except (OSError, KeyError) as error:
        wire.send(control, {"step": "failed", "error": f"attach to process {pid}: {error}"})
        return
    wire.send(control, {"step": "ready"})
    sys_.set_process_name(f"cg:{message['machine']}")
    agent.serve(control, lambda _: None)


def _join_control_groups(pid: int) -> None:
    with open(f"/proc/{pid}/cgroup") as file:
        lines = [line.rstrip("\n").split(":", 2) for line in file]
    for _, controllers, path in lines:
        for folder in _mounts_of(controllers):
            try:
                with open(f"{folder}{path}/cgroup.procs", "w") as procs:
                    procs.write("0")
            except OSError:
                continue
            break


def _mounts_of(controllers: str) -> list[str]:
    if not controllers:
        return ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
    names = controllers.removeprefix("name=")
    return [f"/sys/fs/cgroup/{names}", *(f"/sys/fs/cgroup/{n}" for n in names.split(","))]
