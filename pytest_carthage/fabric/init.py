"""The fabric's PID 1: bridges, machines, and the end of everything when its owner is gone.

It is forked by the run's supervisor and lives in its own network, mount, PID and IPC
namespaces (and user namespace, without privileges). When the pipe from the supervisor
closes, it exits, and the kernel removes all that is in those namespaces.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

from pytest_carthage.fabric import links, netlink, rootfs, wire
from pytest_carthage.fabric import machine as machines
from pytest_carthage.fabric import syscalls as sys_
from pytest_carthage.fabric.agent import new_socket
from pytest_carthage.fabric.server import Connection, Reply, Server
from pytest_carthage.fabric.wires import Wires

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pytest_carthage.fabric.disturb import Disturbances
    from pytest_carthage.fabric.underlay import Underlays

_READY_S = 30.0
#: where root file systems of machines with an image are mounted
ROOTS = "/run/carthage-roots"


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
        #: what its first process is born with: its end of ``control``, and its log
        self.birth: tuple[socket.socket, int] | None = None
        #: where its root file system is mounted, and what keeps its image from being removed
        self.root: tuple[str, int] | None = None

    @property
    def ports(self) -> list[str]:
        """The fabric's ends of its links."""
        return [port for link in self.spec["links"] for port in links.ports(link)]


class Fabric:
    """Serves the operations that :mod:`pytest_carthage.fabric.wire` lists for fabrics."""

    def __init__(self, listener: socket.socket, lifeline: int, *, unprivileged: bool) -> None:
        self._machines: dict[str, _Machine] = {}
        self._bridges: dict[str, int] = {}
        #: MTU of each bridge that has one of its own
        self._mtus: dict[str, int | None] = {}
        #: bridges of point-to-point networks
        self._wire_bridges: set[str] = set()
        #: bridge to the interface that the macvlans of its network are made of
        self._parents: dict[str, int] = {}
        self._children: set[int] = set()
        self._template: str | None = None
        #: text of ``/etc/hosts`` of machines that start
        self._names = ""
        self._unprivileged = unprivileged
        self._own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._own_network = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.server = server = Server()
        server.on_child = self._ended
        self._underlays: Underlays | None = None
        #: takes ports in and out of service
        self.wires = Wires(server.watch)
        server.handlers = {
            "channel": self._channel,
            "networks": self._networks,
            "machines": self._make,
            "attach": self._attach,
            "stop": self._stop,
            "start": self._start,
            "plug": self._plug,
            "underlay": self._underlay,
            "cable": self._cable,
            "tunnel": self._tunnel,
            "untunnel": self._untunnel,
            "root": self._root,
            "remove": self._remove,
            "spawn": self._spawn,
            "inside": self._inside,
            "socket": self._socket,
            "hosts": self._hosts,
            "status": self._status,
            "disturb": self._disturb,
            "heal": self._heal,
        }
        server.listen(listener)
        self._listener = listener
        self._lifeline = lifeline
        server.watch(lifeline, lambda: os._exit(0))
        self._inside_jobs: dict[int, tuple[Connection, int]] = {}
        #: faults, from the first one on
        self._disturbances: Disturbances | None = None

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
            is_wire = network.get("kind") == "point-to-point"
            batch.bridge(network["bridge"], mtu=network.get("mtu"), is_wire=is_wire)
            if is_wire:
                self._wire_bridges.add(network["bridge"])
        batch.commit()
        for network in message["networks"]:
            self._bridges[network["bridge"]] = netlink.index_of(network["bridge"])
            self._mtus[network["bridge"]] = network.get("mtu")
        for bridge in self._wire_bridges.intersection(n["bridge"] for n in message["networks"]):
            try:
                batch = netlink.Batch()
                batch.quiet_bridge(bridge)
                batch.commit()
            except OSError:
                pass  # this kernel's bridges have no multicast snooping
        return Reply()

    def _bridge_index(self, bridge: str) -> int:
        try:
            return self._bridges[bridge]
        except KeyError:
            known = ", ".join(self._bridges) or "none"
            raise LookupError(f"no network on bridge {bridge!r}; there are: {known}") from None

    def _parent_index(self, link: Mapping[str, Any]) -> int:
        """The one interface of a network that is the parent of all its macvlans."""
        bridge = link["bridge"]
        if bridge not in self._parents:
            index = self._bridge_index(bridge)
            batch = netlink.Batch()
            # names of links and bridges have no dot
            batch.veth(
                f"port.{index}",
                bridge_index=index,
                peer=f"macvlan.{index}",
                peer_namespace_fd=-1,
                mac=None,
                mtu=self._mtus.get(bridge) or link.get("mtu"),
            )
            batch.commit()
            batch = netlink.Batch()
            batch.up(f"macvlan.{index}")
            batch.commit()
            netlink.wait_until_up([f"port.{index}"])
            self._parents[bridge] = netlink.index_of(f"macvlan.{index}")
        return self._parents[bridge]

    # machines

    def _new_network(self) -> int:
        """Make a network namespace; returns its descriptor."""
        sys_.unshare(sys_.CLONE_NEWNET)
        try:
            return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            sys_.setns(self._own_network, sys_.CLONE_NEWNET)

    def _connect(self, new: Collection[_Machine]) -> None:
        """Make all links of new machines."""
        batch = netlink.Batch()
        try:
            for machine in new:
                for link in machine.spec["links"]:
                    links.connect(
                        batch,
                        link,
                        namespace_fd=machine.namespace,
                        bridge_index=self._bridge_index,
                    )
            batch.commit()
            batch = netlink.Batch()
            for machine in new:
                for link in machine.spec["links"]:
                    links.complete(
                        batch,
                        link,
                        namespace_fd=machine.namespace,
                        bridge_index=self._bridge_index,
                        parent_index=self._parent_index,
                        is_wire=self._wire_bridges.__contains__,
                    )
            batch.commit()
        except (OSError, LookupError):
            for machine in list(new):
                self._forget(machine)
            raise

    def _configure(self, machine: _Machine) -> None:
        """Configure a machine's network."""
        sys_.setns(machine.namespace, sys_.CLONE_NEWNET)
        try:
            machines.configure_network(machine.spec)
        finally:
            sys_.setns(self._own_network, sys_.CLONE_NEWNET)

    def _prepare(self, machine: _Machine) -> None:
        """Get all that :meth:`_fork` needs."""
        if machine.spec["kind"] != "process":
            return
        if self._unprivileged and self._template is None:
            self._template = "/run/carthage-template"
            rootfs.prepare_template(self._template)
        log = os.open(
            machine.spec["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        machine.control, theirs = socket.socketpair()
        machine.control.settimeout(_READY_S)
        machine.birth = theirs, log

    def _fork(self, machine: _Machine) -> None:
        """Fork a machine's first process, into its network and a new PID namespace."""
        if machine.birth is None:
            return
        theirs, log = machine.birth
        machine.birth = None
        try:
            sys_.setns(machine.namespace, sys_.CLONE_NEWNET)
            sys_.unshare(sys_.CLONE_NEWPID)  # for the next child alone
            machine.pid = machines.fork(
                lambda: machines.become_process(
                    machine.spec,
                    theirs,
                    log,
                    hosts=machine.spec.get("hosts") or self._names,
                    template=self._template,
                ),
                keep=(theirs.fileno(), log),
            )
        finally:
            sys_.setns(self._own_pids, sys_.CLONE_NEWPID)
            sys_.setns(self._own_network, sys_.CLONE_NEWNET)
            theirs.close()
            os.close(log)

    def _await_ready(self, machine: _Machine) -> None:
        if machine.spec["kind"] != "process":
            return
        assert machine.control is not None
        answer, _ = wire.receive(machine.control)
        if answer["step"] != "ready":
            raise OSError(answer["error"])

    def _make(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        made: dict[str, _Machine] = {}
        failed: dict[str, str] = {}
        self._names = message.get("hosts", self._names)
        for spec in message["machines"]:
            name = spec["name"]
            if name in self._machines:
                failed[name] = "there is a machine of this name already"
                continue
            machine = _Machine(spec)
            try:
                machine.namespace = self._new_network()
            except OSError as error:
                failed[name] = str(error)
                continue
            self._machines[name] = made[name] = machine
        self._connect(made.values())
        # one step after the other: forks in a row have the most memory in common
        for step in (self._configure, self._prepare, self._fork, self._await_ready):
            for name, machine in list(made.items()):
                try:
                    step(machine)
                except (OSError, ValueError) as error:
                    del made[name]
                    failed[name] = str(error)
                    self._forget(machine)
        netlink.wait_until_up([port for machine in made.values() for port in machine.ports])
        for machine in made.values():
            for link in machine.spec["links"]:
                if link.get("bridge") in self._wire_bridges:
                    for port in links.ports(link):
                        self.wires.add(port, link["bridge"])
        return Reply(
            made={
                name: {"pid": machine.pid, "netns": f"/proc/1/fd/{machine.namespace}"}
                for name, machine in made.items()
            },
            failed=failed,
        )

    def _root(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        """Mount a machine's root: layers of an image, with a layer of its own above."""
        machine = self._find(message)
        top = os.open(os.path.dirname(message["lower"][0]), os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(top, fcntl.LOCK_SH)
            path = f"{ROOTS}/{machine.name}"
            os.makedirs(path, exist_ok=True)
            layers = [f"upperdir={message['upper']}", f"workdir={message['work']}"]
            # nobody reads a machine's own layer after a crash of this host
            options = [*layers, "redirect_dir=off", "index=off", "volatile"]
            sys_.mount_overlay(path, message["lower"], options)
        except BaseException:
            os.close(top)
            raise
        machine.root = (path, top)
        return Reply(path=path)

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
                    keep=(theirs.fileno(),),
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
        if self._disturbances is not None and self._disturbances.is_frozen(machine.name):
            raise LookupError(f"machine {machine.name!r} is frozen")
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
        if machine.birth is not None:
            machine.birth[0].close()
            os.close(machine.birth[1])
            machine.birth = None

    def _stop(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        machine = self._find(message)
        self._end_agent(machine, message.get("timeout_s", 0.0))
        if machine.spec["kind"] == "process":
            self._set_links(machine, up=False)
        return Reply()

    def _plug(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        self._set_links(self._find(message), up=message["up"])
        return Reply()

    def _set_links(self, machine: _Machine, *, up: bool) -> None:
        """A machine that is off must not answer or forward, although its namespace is kept."""
        pulled = self._disturbances.is_down if up and self._disturbances else lambda port: False
        self.wires.set_ports([port for port in machine.ports if not pulled(port)], up=up)
        shared = [link for link in machine.spec["links"] if links.kind_of(link) == "macvlan"]
        if not shared:
            return
        # these have no port of their own
        sys_.setns(machine.namespace, sys_.CLONE_NEWNET)
        try:
            batch = netlink.Batch()
            if up:
                machines.set_up_links(batch, machine.spec, shared, again=True)
            else:
                for link in shared:
                    batch.down(link["interface"])
            batch.commit()
        finally:
            sys_.setns(self._own_network, sys_.CLONE_NEWNET)

    def _start(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        machine = self._find(message)
        if machine.spec["kind"] != "process":
            raise ValueError("only a machine of kind 'process' is started by the fabric")
        if machine.pid is not None:
            raise ValueError(f"machine {machine.name!r} runs already")
        self._set_links(machine, up=True)
        try:
            self._prepare(machine)
            self._fork(machine)
            self._await_ready(machine)
        except OSError:
            self._end_agent(machine)
            raise
        return Reply(pid=machine.pid)

    def _forget(self, machine: _Machine) -> None:
        if self._disturbances is not None:
            self._disturbances.forget(machine.spec)
        self._end_agent(machine)
        if machine.namespace >= 0:
            os.close(machine.namespace)
        self._machines.pop(machine.name, None)
        if machine.root is not None:
            path, top = machine.root
            machine.root = None
            sys_.umount(path)
            os.close(top)

    def _remove(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        machine = self._machines.get(message["machine"])
        if machine is not None:
            self._forget(machine)
            # the namespace ends with its last user, the ports need not wait for that
            for port in machine.ports:
                batch = netlink.Batch()
                try:
                    batch.delete(port)
                    batch.commit()
                except OSError:
                    pass  # went with the namespace
        return Reply()

    # faults

    def _disturb(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        if self._disturbances is None:
            from pytest_carthage.fabric.disturb import Disturbances

            def namespace_of(name: str) -> tuple[int, int | None]:
                machine = self._find({"machine": name})
                return machine.namespace, machine.pid

            self._disturbances = Disturbances(namespace_of, self.wires.set_ports)
        return Reply(**self._disturbances.begin(message))

    def _heal(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        if self._disturbances is not None:
            self._disturbances.heal(message["number"])
        return Reply()

    # networks that span two fabrics

    @property
    def _spans(self) -> Underlays:
        if self._underlays is None:
            from pytest_carthage.fabric.underlay import Underlays

            self._underlays = Underlays(self._own_network)
        return self._underlays

    def _underlay(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        return Reply((self._spans.make(message["name"]),))

    def _cable(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        self._spans.connect(message["name"], fds[0], message["mtu"])
        return Reply()

    def _tunnel(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        bridge_index = self._bridge_index(message["bridge"])
        return Reply(interface=self._spans.tunnel(message, bridge_index))

    def _untunnel(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        self._spans.remove(message["name"])
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

        pid = machines.fork(body, keep=[*fds, *([namespace] if namespace >= 0 else [])])
        self._inside_jobs[pid] = (connection, message["id"])
        return None

    def _socket(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        if not message.get("machine"):
            return Reply((new_socket(message),))
        machine = self._find(message)
        sys_.setns(machine.namespace, sys_.CLONE_NEWNET)
        try:
            return Reply((new_socket(message),))
        finally:
            sys_.setns(self._own_network, sys_.CLONE_NEWNET)

    def _hosts(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        self._names = message["text"]
        return Reply()

    def _status(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        return Reply(
            machines={m.name: {"pid": m.pid} for m in self._machines.values()},
            networks=list(self._bridges),
            at_s=time.time(),
        )


def map_user(uid: int, gid: int) -> None:
    """Be root in the user namespace that the caller is in, which is new."""
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
        map_user(uid, gid)
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
        # frames between machines are no business of the fabric's packet filter, which is empty
        ("bridge/bridge-nf-call-arptables", "0"),
        ("bridge/bridge-nf-call-ip6tables", "0"),
        ("bridge/bridge-nf-call-iptables", "0"),
    ):
        try:
            with open(f"/proc/sys/net/{name}", "w") as file:
                file.write(value)
        except OSError:
            pass  # a kernel without IPv6, or without br_netfilter
    # what is mounted there is seen by programs of the fabric that live in mount namespaces of
    # their own
    os.mkdir(ROOTS)
    sys_.mount("tmpfs", ROOTS, "tmpfs", sys_.MS_NODEV, "mode=0711")
    sys_.mount("none", ROOTS, None, sys_.MS_SHARED)
    batch = netlink.Batch()
    batch.up("lo")
    batch.commit()
