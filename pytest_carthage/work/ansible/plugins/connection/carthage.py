"""Ansible's way into a machine of a live layout: the channel to the machine's agent.

Loaded by ``ansible-playbook``, which may live in another environment than pytest-carthage:
the client that it needs runs on the standard library alone and is loaded from beside this file.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import selectors
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound
from ansible.plugins.connection import ConnectionBase
from ansible.utils.display import Display

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_carthage.fabric.wire.client import Client

DOCUMENTATION = """
name: carthage
short_description: run tasks in the machines of a live pytest-carthage layout
description:
  - Talks to the agent of a machine over the UNIX socket of its layout's fabric.
  - Needs neither sshd nor an address in the host's network namespace.
author: pytest-carthage
options:
  socket:
    description: Path of the socket of the layout's fabric.
    type: path
    vars:
      - name: ansible_carthage_socket
  machine:
    description: The machine's name in its layout.
    vars:
      - name: ansible_carthage_machine
  names:
    description: Host names and addresses to the machines that they stand for.
    type: dict
    default: {}
    vars:
      - name: ansible_carthage_names
  network_os:
    description: The network operating system that production's inventory has a host be.
    type: string
    default: ""
    vars:
      - name: ansible_network_os
  remote_user:
    description: User in the machine to run as.
    default: root
    ini:
      - section: defaults
        key: remote_user
    env:
      - name: ANSIBLE_REMOTE_USER
    vars:
      - name: ansible_user
    keyword:
      - name: remote_user
    cli:
      - name: user
        option: --user
  become_success_timeout:
    description: Seconds to wait for a privilege escalation that asks for a password.
    type: int
    default: 10
    vars:
      - name: ansible_carthage_become_success_timeout
  pipelining:
    description: Hand a module to its interpreter through standard input, without a file.
    type: boolean
    default: true
    env:
      - name: ANSIBLE_PIPELINING
    ini:
      - section: defaults
        key: pipelining
      - section: connection
        key: pipelining
    vars:
      - name: ansible_pipelining
  compiled:
    description: >-
      Folder in which the code of modules is kept that the machines' Python has compiled, so that it
      does not do it again for each task; none where it is empty.
    type: string
    default: ""
    env:
      - name: CARTHAGE_ANSIBLE_COMPILED
    vars:
      - name: ansible_carthage_compiled
"""

#: how long an init that starts may take until its machine is worked in all the same
_BOOT_S = 60.0

_SUDO = ("/usr/bin/sudo", "/bin/sudo", "/usr/local/bin/sudo")

display = Display()


def package(name: str) -> Any:
    """A module of the package that this file belongs to."""
    if "pytest_carthage" not in sys.modules:
        # not by sys.path: that would offer Ansible all the packages that live beside ours
        folder = Path(__file__).resolve().parents[4]
        spec = importlib.util.spec_from_file_location(
            "pytest_carthage", folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        if spec is None or spec.loader is None:
            raise AnsibleError(f"no package pytest_carthage in {folder}")
        module = importlib.util.module_from_spec(spec)
        sys.modules["pytest_carthage"] = module
        spec.loader.exec_module(module)
    return importlib.import_module(f"pytest_carthage.{name}")


def preload() -> None:
    """Load what each task needs, so that workers that are forked later have it."""
    package("fabric.wire.client")
    package("work.ansible.payload")


def _client_module() -> Any:
    return package("fabric.wire.client")


class Connection(ConnectionBase):  # type: ignore[misc]
    """One worker's connection to one machine."""

    transport = "carthage"
    has_pipelining = True

    _connected: bool
    _client: Client | None = None
    #: whom the agent itself runs the next command as, where the machine has no sudo
    _become_as: str | None = None

    def _machine(self) -> str | None:
        """The machine's name; None: the host is none of the layout."""
        names = self.get_option("names")
        machine = self.get_option("machine") or names.get(self._play_context.remote_addr)
        return str(machine) if machine else None

    def _connect(self) -> Connection:
        if self._connected:
            return self
        path, machine = self.get_option("socket"), self._machine()
        if not path or not machine:
            raise AnsibleConnectionFailure(
                f"{self._play_context.remote_addr!r} is no machine of the layout, and plays do "
                f"not leave the layout; "
                f"declare a machine of that name, or give the host an ansible_connection "
                f"of its own (ansible_connection=local for this computer)"
            )
        if system := self.get_option("network_os"):
            raise AnsibleConnectionFailure(
                f"machine {machine!r}: its ansible_network_os is {system!r}, and a machine of a "
                f"layout speaks neither network_cli nor netconf nor httpapi; leave it out with "
                f"limit=, or say that it is a server like others with "
                f'variables={{"ansible_network_os": ""}}'
            )
        module = _client_module()
        try:
            self._client = module.connect(path, machine)
            # as no sshd takes anybody before its machine has been set up: what a boot does,
            # like clearing /tmp, would go on beside the task
            with module.connect(path) as fabric:
                fabric.request("booted", machine=machine, timeout_s=_BOOT_S)
        except (module.Refused, OSError) as error:
            raise AnsibleConnectionFailure(
                f"machine {machine!r}: no connection to its agent through {path}: {error}"
            ) from error
        self._connected = True
        return self

    @contextlib.contextmanager
    def _channel(self, doing: str) -> Iterator[Client]:
        """The connected client; refusals and a lost connection become Ansible's errors."""
        self._connect()
        assert self._client is not None
        refused = _client_module().Refused
        try:
            yield self._client
        except refused as error:
            message = f"machine {self._machine()!r}: {doing}: {error}"
            if "no user" in str(error):
                message += (
                    "; create the user in an image or a role, or connect as another one with "
                    'variables={"ansible_user": "root"}'
                )
            raise AnsibleConnectionFailure(message) from error
        except OSError as error:
            self.close()
            raise AnsibleConnectionFailure(
                f"machine {self._machine()!r}: {doing}: connection lost: {error}"
            ) from error

    def set_become_plugin(self, plugin: Any) -> None:
        """Let the agent change users where a play asks for sudo and the machine has none.

        The connection is root's in any case, so that an image without sudo can be provisioned
        by a play with ``become``. A sudo that exists is used, with its own configuration.
        """
        super().set_become_plugin(plugin)
        if plugin is None or plugin.name != "sudo":
            return
        build = plugin.build_become_command

        def build_or_switch(cmd: str, shell: Any) -> Any:
            if plugin.get_option("become_exe") not in (None, "", "sudo") or self._has_sudo():
                return build(cmd, shell)
            self._become_as = plugin.get_option("become_user") or "root"
            return cmd

        plugin.build_become_command = build_or_switch

    def _has_sudo(self) -> bool:
        with self._channel("look for sudo") as client:
            for path in _SUDO:
                with contextlib.suppress(_client_module().Refused):
                    client.request("stat", path=path)
                    return True
        return False

    def exec_command(
        self, cmd: str, in_data: bytes | None = None, sudoable: bool = True
    ) -> tuple[int, bytes, bytes]:
        """Run a shell command; returns exit status, stdout, stderr."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        user, self._become_as = self._become_as or self.get_option("remote_user"), None
        display.vvv(f"EXEC {cmd}", host=self._machine())
        argv = _argv(cmd)
        with self._channel(f"run a command as {user!r}") as client:
            if in_data:
                in_data = self._compiled(client, cmd, in_data, user)
            if sudoable and self.become is not None and self.become.expect_prompt():
                return self._converse(client, argv, user, in_data)
            status, out, err = client.run(argv, user=user, input=in_data)
        return _exit_status(status), out, err

    def _compiled(self, client: Client, cmd: str, program: bytes, user: str) -> bytes:
        """A module's program, with its code compiled by the Python that is to run it."""
        folder = self.get_option("compiled")
        payload = package("work.ansible.payload")
        interpreter = payload.interpreter_of(cmd) if folder else None
        if interpreter is None:
            return program

        def run(given: bytes) -> bytes | None:
            argv = [interpreter, "-I", "-S", "-c", payload.COMPILER]
            status, printed, _ = client.run(argv, user=user, input=given)
            return printed if status == 0 else None

        whose = f"{self._machine()} {interpreter}"
        made: bytes = payload.Compiled(Path(folder)).program(program, whose, run)
        return made

    def _converse(
        self, client: Client, argv: list[str], user: str, in_data: bytes | None
    ) -> tuple[int, bytes, bytes]:
        """Run a command behind a password prompt, and answer the prompt."""
        become = self.become
        pipes = [os.pipe() for _ in range(3)]
        (in_read, in_write), (out_read, out_write), (err_read, err_write) = pipes
        ours = {in_write, out_read, err_read}
        output = {out_read: bytearray(), err_read: bytearray()}
        timeout_s = max(1, self.get_option("become_success_timeout"))
        deadline: float | None = time.monotonic() + timeout_s
        asked = False
        asking = b""
        try:
            try:
                reply, _ = client.request(
                    "run", fds=(in_read, out_write, err_write), argv=argv, user=user
                )
            finally:
                for fd in (in_read, out_write, err_write):
                    os.close(fd)
            with selectors.DefaultSelector() as selector:
                for fd in output:
                    selector.register(fd, selectors.EVENT_READ)
                while selector.get_map():
                    wait = None if deadline is None else max(0.0, deadline - time.monotonic())
                    ready = selector.select(wait)
                    if not ready:
                        raise AnsibleConnectionFailure(
                            f"machine {self._machine()!r}: {become.name} did not "
                            f"let {user!r} through within {timeout_s} s; its output: "
                            f"{bytes(output[out_read] + output[err_read])!r}"
                        )
                    for key, _ in ready:
                        data = os.read(key.fd, 1 << 16)
                        output[key.fd] += data
                        if not data:
                            selector.unregister(key.fd)
                    if deadline is None:
                        continue
                    if become.check_success(bytes(output[out_read])):
                        deadline = None
                        _write_all(in_write, in_data or b"")
                        ours.discard(in_write)
                        os.close(in_write)
                    elif not asked and any(
                        become.check_password_prompt(bytes(seen)) for seen in output.values()
                    ):
                        asked = True
                        asking = bytes(output[err_read])
                        password = str(become.get_option("become_pass") or "")
                        _write_all(in_write, password.encode() + b"\n")
                    elif asked and become.check_incorrect_password(bytes(output[err_read])):
                        raise AnsibleError(f"Incorrect {become.name} password")
            status = int(client.request("wait", job=reply["job"])[0]["status"])
        finally:
            for fd in ours:
                os.close(fd)
        # what is before the mark, and the question, is not the command's
        before, mark, after = bytes(output[out_read]).partition(become.success.encode())
        out = after.removeprefix(b"\n") if mark else before
        return _exit_status(status), out, bytes(output[err_read]).removeprefix(asking)

    def put_file(self, in_path: str, out_path: str) -> None:
        """Copy a file into the machine; it belongs to the remote user."""
        super().put_file(in_path, out_path)
        display.vvv(f"PUT {in_path} TO {out_path}", host=self._machine())
        user = self.get_option("remote_user")
        owner = {} if user == "root" else {"user": user}
        try:
            source = Path(in_path).open("rb")  # noqa: SIM115
        except FileNotFoundError as error:
            raise AnsibleFileNotFound(f"no file {in_path} on this computer") from error
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with source, self._channel(f"write {out_path}") as client:
            reply, (fd,) = client.request("open", path=out_path, flags=flags, **owner)
            with os.fdopen(fd, "wb") as target:
                shutil.copyfileobj(source, target)
            if "commit" in reply:  # it is a copy, which is carried to the machine now
                client.request("commit", number=reply["commit"])

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Copy a file out of the machine."""
        super().fetch_file(in_path, out_path)
        display.vvv(f"FETCH {in_path} TO {out_path}", host=self._machine())
        with self._channel(f"read {in_path}") as client:
            _, (fd,) = client.request("open", path=in_path, flags=os.O_RDONLY)
            with os.fdopen(fd, "rb") as source, Path(out_path).open("wb") as target:
                shutil.copyfileobj(source, target)

    def reset(self) -> None:
        """Forget the connection; the next task makes a new one."""
        self.close()

    def close(self) -> None:
        """Close the connection; commands that still run in the machine are killed."""
        if self._client is not None:
            self._client.close()
            self._client = None
        self._connected = False


def _argv(cmd: str) -> list[str]:
    """Ansible's ``/bin/sh -c '...'`` as it is meant, without a second shell around it."""
    try:
        words = shlex.split(cmd)
    except ValueError:
        words = []
    if len(words) == 3 and words[1] == "-c" and cmd == f"{words[0]} -c {shlex.quote(words[2])}":
        return words
    return ["/bin/sh", "-c", cmd]


def _exit_status(status: int) -> int:
    """A shell's way to tell of a signal: 128 and its number."""
    return status if status >= 0 else 128 - status


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    with contextlib.suppress(BrokenPipeError):
        while view:
            view = view[os.write(fd, view) :]
