"""The file system of a machine, or of an image that is not booted: what tasks work on."""

from __future__ import annotations

import asyncio
import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.bridge import Blocks, operation
from pytest_carthage.errors import HostError, Problem, TaskError, TimeLimitError
from pytest_carthage.work.files.commands import CommandOperations
from pytest_carthage.work.files.scope import Scope
from pytest_carthage.work.files.transfers import FileOperations

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import testinfra.host

    from pytest_carthage.handles.playbook import PlaybookResult
    from pytest_carthage.model.role import Role
    from pytest_carthage.model.task import Task
    from pytest_carthage.work.ansible.environment import Environment

__all__ = ["AsyncFilesystem", "Filesystem", "FilesystemOperations"]


class FilesystemOperations(CommandOperations, FileOperations):
    """What can be done among files, see :mod:`pytest_carthage.bridge` for its two faces."""

    # packages, units and playbooks

    @operation
    async def install(self, *packages: str) -> None:
        """Install Debian packages with what they depend on; those that are there stay.

        They are found and downloaded by the host, whose apt knows the way to the archive: a
        machine needs no way out for it.

        :raises TaskError: there is no such package, or it could not be installed.
        """
        from pytest_carthage.work.debian.packages import Supply, install

        supply = Supply(
            folder=await asyncio.to_thread(self.package_cache),
            mirror=self.mirror,
            offline=self.offline,
            note=self.note,
        )
        await install(self, packages, supply)

    @operation
    async def purge(self, *packages: str, autoremove: bool = False) -> None:
        """Remove Debian packages with their configuration.

        :param autoremove: also what nothing needs any more.
        :raises TaskError: they could not be removed.
        """
        from pytest_carthage.work.debian.packages import purge

        await purge(self, packages, autoremove=autoremove)

    @operation
    async def enable(self, *units: str) -> None:
        """Enable systemd units; where systemd runs, start them, too.

        :raises TaskError: there is no such unit, or no systemd.
        """
        from pytest_carthage.work.files.units import enable

        await enable(self, units)

    @operation
    async def disable(self, *units: str) -> None:
        """Disable systemd units; where systemd runs, stop them, too.

        :raises TaskError: there is no such unit, or no systemd.
        """
        from pytest_carthage.work.files.units import disable

        await disable(self, units)

    @operation
    async def ansible(
        self,
        playbook: str | Path | None = None,
        *,
        role: str | Path | None = None,
        extra_vars: Mapping[str, object] | None = None,
        tags: str | Sequence[str] | None = None,
        outside: str | Sequence[str] = (),
        timeout_s: float = 3600.0,
    ) -> PlaybookResult:
        """Apply a playbook, or a role by the path of its folder, from outside.

        Ansible is the host's, in a station of the layout; for an image it has no network unless the
        task has. Nothing of it, nor Python, needs to be in an image.

        :param outside: ``"host:port"`` of what it reaches of the world, on ``localhost``; each is a
            gate of the layout.
        :raises AnsibleError: a task failed, or it could not be started.
        :raises HostError: there is no ``ansible-playbook`` on this host.
        """
        from pytest_carthage.work.ansible.task import apply

        return await apply(
            self,
            variables=self.variables,
            inputs=self.inputs,
            near=self.scope.folders[:1],
            playbook=playbook,
            role=role,
            extra_vars=extra_vars,
            tags=tags,
            outside=outside,
            timeout_s=timeout_s,
        )

    async def ansible_environment(self) -> Environment:
        """What Ansible is to see of it.

        :raises TaskError: it cannot be used from here.
        """
        raise TaskError(f"{self._who}: Ansible does not reach it")

    # tasks

    async def perform(self, task: Task, role: Role | None) -> None:
        """Do a task here: its view has relative paths of its folder, and its role's parameters.

        :raises TimeLimitError: it did not end in time.
        """
        view = self.within(Scope.of(task.anchor, role))
        arguments = () if role is None else (role,)
        try:
            async with asyncio.timeout(task.timeout_s):
                if task.is_async:
                    await task.function(*arguments, view)
                else:
                    await asyncio.to_thread(_call, task.function, *arguments, view.sync)
        except TimeoutError as error:
            raise TimeLimitError(
                f"{self._who}: task {task.title!r} did not end in {task.timeout_s:g} s"
            ) from error

    @property
    def sync(self) -> Any:
        """The same for callers that wait."""
        return Filesystem(self)


class AsyncFilesystem(FilesystemOperations):
    """Files, and a way to run commands among them; every coroutine is for any event loop."""

    @property
    def sync(self) -> Filesystem:
        """The same for callers that wait."""
        return Filesystem(self)


class Filesystem(Blocks, FilesystemOperations):
    """Files, and a way to run commands among them; :attr:`aio` is the same as awaitables."""

    def __init__(self, aio: FilesystemOperations) -> None:
        self.aio = aio

    @property
    def sync(self) -> Any:
        """Itself."""
        return self

    @property
    def host(self) -> testinfra.host.Host:
        """It as a testinfra host, whose commands root runs.

        :raises HostError: testinfra, the extra ``testinfra``, is not installed.
        """
        return self._host(None)

    def host_as(self, user: str) -> testinfra.host.Host:
        """It as a testinfra host, whose commands another user runs: no test needs ``sudo()``.

        A ``with host.sudo():`` in it is root's, as ever.

        :param user: name or number.
        :raises HostError: testinfra, the extra ``testinfra``, is not installed.
        """
        return self._host(user)

    @cached_property
    def _testinfra(self) -> dict[str | None, testinfra.host.Host]:
        """Of each user one, which remembers what it has detected."""
        return {}

    def _host(self, user: str | None) -> testinfra.host.Host:
        if user in self._testinfra:
            return self._testinfra[user]
        try:
            from pytest_carthage.work.files.testinfra_host import make_host
        except ModuleNotFoundError as error:
            if error.name != "testinfra":
                raise
            complaint = (
                f"the host of {self.who} is testinfra's, which {sys.executable} does not have"
            )
            remedy = "pip install 'pytest-carthage[testinfra]'"
            raise HostError([Problem(who="testinfra", what=complaint, remedy=remedy)]) from error

        return self._testinfra.setdefault(user, make_host(self, user))


def _call(function: Callable[..., Any], *arguments: Any) -> None:
    try:
        function(*arguments)
    except StopIteration as error:  # a future cannot have it, and would never be done
        raise RuntimeError(f"StopIteration: {error}".rstrip(": ")) from error
