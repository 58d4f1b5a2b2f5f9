"""The fabric's PID 1: bridges, machines, and the end of everything when its owner is gone.

It is forked by the run's supervisor and lives in its own network, mount, PID and IPC
namespaces (and user namespace, without privileges). When the pipe from the supervisor
closes, it exits, and the kernel removes all that is in those namespaces.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

from pytest_carthage.fabric import machine as machines
from pytest_carthage.fabric import netlink, rootfs, wire
from pytest_carthage.fabric import syscalls as sys_
from pytest_carthage.fabric.agent import new_socket
from pytest_carthage.fabric.server import Connection, Reply, Server

if TYPE_CHECKING:
    from collections.abc import Mapping

_READY_S = 30.0


class _Machine:
    """A machine as the fabric knows it."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.spec = dict(spec)
        self.name: str = spec["name"]
        #: process id of its agent in the fabric's PID namespace, while there is one
        self.pid: int | None = None
        self.control: socket.socket | None = None
        #: descriptor of its network namespace, kept while the machine is stopped
        self.namespace: int = -1


class Fabric:
    """Serves the operations that :mod:`pytest_carthage.fabric.wire` lists for fabrics."""

    def __init__(self, listener: socket.socket, lifeline: int, *, unprivileged: bool) -> None:
        self._machines: dict[str, _Machine] = {}
        self._bridges: dict[str, int] = {}
        self._children: set[int] = set()
        self._template: str | None = None
        self._unprivileged = unprivileged
        self._own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self.server = server = Server()
        server.on_child = self._ended
        server.handlers = {
            "channel": self._channel,
            "networks": self._networks,
            "machines": self._make,
            "attach": self._attach,
            "stop": self._stop,
            "start": self._start,
            "remove": self._remove,
            "spawn": self._spawn,
            "inside": self._inside,
            "socket": self._socket,
            "hosts": self._hosts,
            "status": self._status,
        }
        server.listen(listener)
        self._listener = listener
        self._lifeline = lifeline
        server.watch(lifeline, lambda: os._exit(0))
        self._inside_jobs: dict[int, tuple[Connection, int]] = {}

    def _ended(self, pid: int, status: int) -> None:
        job = self._inside_jobs.pop(pid, None)
        if job is not None:
            job[0].answer(job[1], Reply(status=os.waitstatus_to_exitcode(status)))
            return
        for machine in self._machines.values():
            if machine.pid == pid:
                machine.pid = None

    def _find(self, message: wire.Message) -> _Machine:
        try:
            return self._machines[message["machine"]]
        except KeyError:
            known = ", ".join(self._machines) or "none"
            raise LookupError(f"no machine {message['machine']!r}; there are: {known}") from None

    # networks

    def _networks(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        batch = netlink.Batch()
        for network in message["networks"]:
            batch.bridge(network["bridge"], mtu=network.get("mtu"))
        batch.commit()
        for network in message["networks"]:
            self._bridges[network["bridge"]] = netlink.index_of(network["bridge"])
        return Reply()

    # machines

    def _to_close(self, *extra: int) -> list[int]:
        fds = self.server.own_descriptors()
        for machine in self._machines.values():
            if machine.control is not None:
                fds.append(machine.control.fileno())
            if machine.namespace >= 0:
                fds.append(machine.namespace)
        return [*fds, *extra]

    def _fork_process(self, machine: _Machine, namespace: int | None) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(_READY_S)
        log = os.open(
            machine.spec["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        closing = [fd for fd in self._to_close(ours.fileno()) if fd != namespace]
        if self._unprivileged and self._template is None:
            self._template = "/run/carthage-template"
            rootfs.prepare_template(self._template)
        sys_.unshare(sys_.CLONE_NEWPID)  # for the next child alone
        try:
            machine.pid = machines.fork(
                lambda: machines.become_process(
                    machine.spec, theirs, log, namespace=namespace, template=self._template
                ),
                close=closing,
            )
        finally:
            sys_.setns(self._own_pids, sys_.CLONE_NEWPID)
            theirs.close()
            os.close(log)
        machine.control = ours

    def _fork_namespace(self, machine: _Machine) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(_READY_S)
        machine.pid = machines.fork(
            lambda: machines.become_namespace(machine.spec, theirs),
            close=self._to_close(ours.fileno()),
        )
        theirs.close()
        machine.control = ours

    def _make(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        made: dict[str, _Machine] = {}
        failed: dict[str, str] = {}
        for spec in message["machines"]:
            name = spec["name"]
            if name in self._machines:
                failed[name] = "there is a machine of this name already"
                continue
            machine = self._machines[name] = made[name] = _Machine(spec)
            if spec["kind"] == "process":
                self._fork_process(machine, None)
            else:
                self._fork_namespace(machine)

        def expect(step: str) -> None:
            for name, machine in list(made.items()):
                try:
                    assert machine.control is not None
                    answer, _ = wire.receive(machine.control)
                    if answer["step"] != step:
                        raise OSError(answer["error"])
                except OSError as error:
                    del made[name]
                    failed[name] = str(error)
                    self._forget(machine)

        expect("namespaces")
        batch = netlink.Batch()
        for machine in made.values():
            path = f"/proc/{machine.pid}/ns/net"
            machine.namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            for link in machine.spec["links"]:
                batch.veth(
                    link["port"],
                    bridge_index=self._bridges[link["bridge"]],
                    peer=link["interface"],
                    peer_namespace_fd=machine.namespace,
                    mac=link.get("mac"),
                    mtu=link.get("mtu"),
                )
        try:
            batch.commit()
        except OSError:
            for machine in made.values():
                self._forget(machine)
            raise
        for machine in made.values():
            assert machine.control is not None
            wire.send(machine.control, {"op": "links"})
        expect("ready")
        for machine in made.values():
            if machine.spec["kind"] != "process":
                assert machine.control is not None
                machine.control.close()
                machine.control = machine.pid = None
        return Reply(
            made={
                name: {"pid": machine.pid, "netns": f"/proc/1/fd/{machine.namespace}"}
                for name, machine in made.items()
            },
            failed=failed,
        )

    def _attach(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        machine = self._find(message)
        self._end_agent(machine)
        target = os.open(f"/proc/{message['pid']}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        ours, theirs = socket.socketpair()
        ours.settimeout(_READY_S)
        try:
            sys_.setns(target, sys_.CLONE_NEWPID)  # for the next child alone
            try:
                machine.pid = machines.fork(
                    lambda: machines.become_guest(message, theirs),
                    close=self._to_close(ours.fileno(), target),
                )
            finally:
                sys_.setns(self._own_pids, sys_.CLONE_NEWPID)
        finally:
            os.close(target)
            theirs.close()
        answer, _ = wire.receive(ours)
        if answer["step"] != "ready":
            ours.close()
            raise OSError(answer["error"])
        machine.control = ours
        return Reply(pid=machine.pid)

    def _channel(
        self, connection: Connection, message: wire.Message, fds: list[int]
    ) -> Reply | None:
        machine = self._find(message)
        if machine.control is None or machine.pid is None:
            raise LookupError(f"machine {machine.name!r} is stopped")
        sock = self.server.release(connection)
        try:
            wire.send(machine.control, {"id": message["id"]}, (sock.fileno(),))
        finally:
            sock.close()
        return None

    def _wait_gone(self, pid: int, timeout_s: float) -> bool:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        try:
            return bool(select.select([fd], [], [], timeout_s)[0])
        finally:
            os.close(fd)

    def _end_agent(self, machine: _Machine, timeout_s: float = 0.0) -> None:
        pid = machine.pid
        if pid is not None:
            if timeout_s and machine.control is not None and machine.spec.get("command"):
                wire.send(machine.control, {"op": "terminate", "timeout_s": timeout_s})
                self._wait_gone(pid, timeout_s + 1)
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self._wait_gone(pid, 10.0)
            machine.pid = None
        if machine.control is not None:
            machine.control.close()
            machine.control = None

    def _stop(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        self._end_agent(self._find(message), message.get("timeout_s", 0.0))
        return Reply()

    def _start(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        machine = self._find(message)
        if machine.spec["kind"] != "process":
            raise ValueError("only a machine of kind 'process' is started by the fabric")
        if machine.pid is not None:
            raise ValueError(f"machine {machine.name!r} runs already")
        machine.spec["hosts"] = message.get("hosts", machine.spec.get("hosts", ""))
        self._fork_process(machine, machine.namespace)
        assert machine.control is not None
        answer, _ = wire.receive(machine.control)
        if answer["step"] != "ready":
            self._end_agent(machine)
            raise OSError(answer["error"])
        return Reply(pid=machine.pid)

    def _forget(self, machine: _Machine) -> None:
        self._end_agent(machine)
        if machine.namespace >= 0:
            os.close(machine.namespace)
        self._machines.pop(machine.name, None)

    def _remove(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        machine = self._machines.get(message["machine"])
        if machine is not None:
            self._forget(machine)
            # the namespace ends with its last user, the ports need not wait for that
            for link in machine.spec["links"]:
                batch = netlink.Batch()
                try:
                    batch.delete(link["port"])
                    batch.commit()
                except OSError:
                    pass  # went with the namespace
        return Reply()

    # programs of the host

    def _spawn(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        log = os.open(message["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            process = subprocess.Popen(
                message["argv"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=message["env"],
                cwd=message.get("cwd") or "/",
                start_new_session=True,
            )
        finally:
            os.close(log)
        process.returncode = 0  # reaped by this process's loop
        return Reply(pid=process.pid)

    def _inside(
        self, connection: Connection, message: wire.Message, fds: list[int]
    ) -> Reply | None:
        namespace = self._find(message).namespace if message.get("machine") else -1
        argv, env = message["argv"], message["env"]

        def body() -> None:
            if namespace >= 0:
                sys_.setns(namespace, sys_.CLONE_NEWNET)
            for number, fd in enumerate(fds[:3]):
                os.dup2(fd, number)
            os.execvpe(argv[0], argv, env)

        closing = [fd for fd in self._to_close() if fd != namespace]
        pid = machines.fork(body, close=closing)
        self._inside_jobs[pid] = (connection, message["id"])
        return None

    def _socket(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        if not message.get("machine"):
            return Reply((new_socket(message),))
        machine = self._find(message)
        home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            sys_.setns(machine.namespace, sys_.CLONE_NEWNET)
            try:
                return Reply((new_socket(message),))
            finally:
                sys_.setns(home, sys_.CLONE_NEWNET)
        finally:
            os.close(home)

    def _hosts(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        for machine in self._machines.values():
            machine.spec["hosts"] = message["text"]
        return Reply()

    def _status(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        return Reply(
            machines={m.name: {"pid": m.pid} for m in self._machines.values()},
            networks=list(self._bridges),
            at_s=time.time(),
        )


def _map_user(uid: int, gid: int) -> None:
    with open("/proc/self/setgroups", "w") as file:
        file.write("deny")
    with open("/proc/self/uid_map", "w") as file:
        file.write(f"0 {uid} 1")
    with open("/proc/self/gid_map", "w") as file:
        file.write(f"0 {gid} 1")


def leave_host(*, unprivileged: bool) -> None:
    """Leave for the fabric's own namespaces; the PID namespace is that of the next child.

    :raises OSError: the kernel refused, named in the message.
    """
    uid, gid = os.getuid(), os.getgid()
    flags = sys_.CLONE_NEWNET | sys_.CLONE_NEWNS | sys_.CLONE_NEWPID | sys_.CLONE_NEWIPC
    if unprivileged:
        sys_.unshare(flags | sys_.CLONE_NEWUSER)
        _map_user(uid, gid)
    else:
        sys_.unshare(flags)


def furnish() -> None:
    """First steps of PID 1: its own /proc, /run and shared memory, and quiet bridges."""
    sys_.mount("none", "/", None, sys_.MS_REC | sys_.MS_PRIVATE)
    sys_.mount("proc", "/proc", "proc", sys_.MS_NOSUID | sys_.MS_NODEV | sys_.MS_NOEXEC)
    for path in ("/run", "/dev/shm"):
        sys_.mount("tmpfs", path, "tmpfs", sys_.MS_NOSUID | sys_.MS_NODEV, "mode=0755")
    for name, value in (
        ("ipv6/conf/all/disable_ipv6", "1"),
        ("ipv6/conf/default/disable_ipv6", "1"),
    ):
        try:
            with open(f"/proc/sys/net/{name}", "w") as file:
                file.write(value)
        except OSError:
            pass  # a kernel without IPv6
    batch = netlink.Batch()
    batch.up("lo")
    batch.commit()
