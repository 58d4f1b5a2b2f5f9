"""``ansible.posix.synchronize``: rsync that reaches machines through their agents.

Its action refuses connections that it does not know, and has rsync use ssh. It is let pass here,
and rsync gets a remote shell of ours: :mod:`pytest_carthage.work.ansible.rsh` on this computer; in
another machine, for a task that is delegated to it, a small program that asks this computer to
begin the other end.

This is loaded into ``ansible-playbook``: it needs nothing but the standard library.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import threading
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from pytest_carthage.fabric.wire import client
from pytest_carthage.work.ansible import rsh

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["guide", "install"]

_OURS = "carthage"
#: a connection that the action takes, and that nothing else of Ansible asks for by this name
_KNOWN = "paramiko"
_INTERPRETERS = ("/usr/bin/python3", "/usr/local/bin/python3")
#: an end of rsync that is on another host; an address of IPv6 stands in brackets
_REMOTE = re.compile(
    r"(?:[^/@:\[]*@)?(?:\[(?:[^\]@]*@)?(?P<literal>[^\]]*)\]|(?P<host>[^/:\[]+))"
    r":(?!:)"  # two are rsync's own protocol
)
#: both ends in a machine that rsync runs in: the one that rsync starts says what is to be run, and
#: gets the descriptors that lead there from the one that was started with them
_RELAY = """
import json, os, signal, socket, sys
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "socket")
def copy(source, target):
    while data := os.read(source, 1 << 16):
        while data:
            data = data[os.write(target, data):]
if sys.argv[1:] == ["--relay"]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(1)
        os.write(2, b"ready\\n")
        asking, _ = listening.accept()
    os.write(2, asking.makefile("rb").readline())
    socket.send_fds(asking, [b"x"], [0, 1])
else:
    asking = socket.socket(socket.AF_UNIX)
    asking.connect(path)
    asking.sendall(json.dumps(sys.argv[1:]).encode() + b"\\n")
    _, (source, target), _, _ = socket.recv_fds(asking, 1, 2)
    child = os.fork()
    if child == 0:
        os.close(source)
        os.close(1)
        try:
            copy(0, target)
        finally:
            os._exit(0)
    os.close(target)
    os.close(0)
    copy(source, 1)
    os.kill(child, signal.SIGKILL)
"""


def install(loader: Any) -> None:
    """Guide each action of ``synchronize`` that Ansible's loader of actions gives from now on."""
    get = loader.get
    if hasattr(get, "guides"):
        return

    def get_guided(name: str, *args: Any, **options: Any) -> Any:
        action = get(name, *args, **options)
        if name.rpartition(".")[2] == "synchronize" and not options.get("class_only"):
            guide(action)
        return action

    get_guided.guides = True  # type: ignore[attr-defined]
    loader.get = get_guided


def guide(action: Any) -> None:
    """Let one action reach machines of the layout."""
    run, execute, connection = action.run, action._execute_module, action._connection

    def guided_run(tmp: Any = None, task_vars: Any = None) -> Any:
        if connection.transport != _OURS:
            return run(tmp, task_vars)
        connection.transport = _KNOWN
        try:
            return run(tmp, task_vars)
        finally:
            connection.transport = _OURS

    def guided_execute(module_name: str, module_args: Any, task_vars: Any, **options: Any) -> Any:
        variables = task_vars["hostvars"][task_vars["inventory_hostname"]]
        host = _other_host(module_args)
        if host is None:
            return execute(module_name, module_args=module_args, task_vars=task_vars, **options)
        machine = _machine(host, variables)
        if machine is None:
            message = (
                f"{host!r} is no machine of the layout, and plays do not leave the layout; "
                f"declare a machine of that name"
            )
            return {"failed": True, "msg": message}
        end = _End(str(variables["ansible_carthage_socket"]), machine)
        # the agent asks for none
        arguments = {**module_args, "_local_rsync_password": None}
        runs_here = action._connection is not connection or connection.transport != _KNOWN
        with end.shell_here() if runs_here else end.shell_in(connection) as (shell, heard):
            arguments["rsync_opts"] = [
                *_listed(module_args.get("rsync_opts")),
                f"--rsh={shlex.quote(shlex.join(shell))}",
            ]
            result = execute(module_name, module_args=arguments, task_vars=task_vars, **options)
        if result.get("failed") and heard:
            result["msg"] = f"{result.get('msg', '')}{bytes(heard).decode(errors='replace')}"
        return result

    action.run, action._execute_module = guided_run, guided_execute


def _other_host(arguments: Any) -> str | None:
    """The host that rsync is to talk to by a remote shell; None, too, if a play says which."""
    own = ("--rsh", "-e")
    if any(str(option).startswith(own) for option in _listed(arguments.get("rsync_opts"))):
        return None
    ends = (str(arguments["src"]), str(arguments["dest"]))
    if any(end.startswith("rsync://") for end in ends):
        return None
    for end in ends:
        if match := _REMOTE.match(end):
            return match["literal"] or match["host"]
    return None


def _machine(host: str, variables: Any) -> str | None:
    """The machine that a host stands for."""
    own = variables.get("ansible_carthage_machine")
    if own is not None and host == variables.get("ansible_host"):
        return str(own)
    machine = variables.get("ansible_carthage_names", {}).get(host)
    return None if machine is None else str(machine)


def _listed(options: Any) -> list[Any]:
    if options is None:
        return []
    return options.split(",") if isinstance(options, str) else list(options)


class _End:
    """The machine that rsync talks to."""

    def __init__(self, path: str, machine: str) -> None:
        self._path = path
        self._machine = machine

    @contextmanager
    def shell_here(self) -> Iterator[tuple[list[str], bytearray]]:
        """A remote shell for an rsync on this computer; errors of the other end are rsync's own."""
        yield [sys.executable, "-I", "-S", rsh.__file__, self._path, self._machine], bytearray()

    @contextmanager
    def shell_in(self, connection: Any) -> Iterator[tuple[list[str], bytearray]]:
        """A remote shell for an rsync in another machine, and the errors of the other end."""
        heard = bytearray()
        user = connection.get_option("remote_user")
        with ExitStack() as stack:
            agent = stack.enter_context(client.connect(self._path, connection._machine()))
            python = _interpreter(agent)
            folder = agent.run(["mktemp", "-d"], user=user)[1].decode().strip()
            stack.callback(agent.run, ["rm", "-rf", folder], user=user)
            program = f"{folder}/rsh"
            agent.run(["tee", program], user=user, input=_RELAY.encode())
            relay = stack.enter_context(client.connect(self._path, connection._machine()))
            pipes = [os.pipe() for _ in range(4)]
            (to_read, to_write), (from_read, from_write), (say, said), (err, error) = pipes
            argv = [python, "-I", "-S", program, "--relay"]
            relay.request("run", fds=(from_read, to_write, said), argv=argv, user=user)
            for descriptor in (from_read, to_write, said):
                os.close(descriptor)
            saying = stack.enter_context(os.fdopen(say, "rb"))
            saying.readline()  # it listens
            other = threading.Thread(
                target=self._other_end, args=(saying, to_read, from_write, error), daemon=True
            )
            erring = threading.Thread(target=_drain, args=(err, heard), daemon=True)
            other.start()
            erring.start()
            try:
                yield [python, "-I", "-S", program], heard
            finally:
                relay.close()  # which ends one that nobody asked
                other.join()
                erring.join()

    def _other_end(self, saying: Any, to_read: int, from_write: int, error: int) -> None:
        try:
            asked = saying.readline()
            if not asked:
                return  # rsync has not come so far
            with client.connect(self._path, self._machine) as agent:
                words = json.loads(asked)
                job = rsh.begin(agent, words, (to_read, from_write, error), client.Refused)
                for descriptor in (to_read, from_write):
                    os.close(descriptor)
                to_read = from_write = -1
                agent.request("wait", job=job)
        except (client.Refused, OSError) as refusal:
            os.write(error, f"machine {self._machine!r}: {refusal}\n".encode())
        finally:
            for descriptor in (to_read, from_write, error):
                with suppress(OSError):
                    os.close(descriptor)


def _drain(descriptor: int, heard: bytearray) -> None:
    with os.fdopen(descriptor, "rb") as stream:
        heard += stream.read()


def _interpreter(agent: Any) -> str:
    for path in _INTERPRETERS:
        with suppress(client.Refused):
            agent.request("stat", path=path)
            return path
    return "python3"
