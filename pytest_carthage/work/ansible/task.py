"""Ansible as a part of a task: a playbook or a role, applied from outside to one file system."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pytest_carthage.errors import AnsibleError
from pytest_carthage.work.ansible.environment import Environment
from pytest_carthage.work.ansible.installation import find_config, program_version
from pytest_carthage.work.ansible.playbook import run_playbook

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_carthage.handles.playbook import PlaybookResult
    from pytest_carthage.model.keys.inputs import Inputs

__all__ = ["apply"]

#: folders of code that is nobody's here
_INSTALLED = ("site-packages", "dist-packages", "__pycache__")
#: what a playbook has beside it that counts for it
_BESIDE = ("group_vars", "host_vars", "vars", "files", "templates", "library", "filter_plugins")


class Target(Protocol):
    """What a playbook is applied to."""

    @property
    def name(self) -> str:
        """What Ansible calls it."""
        ...

    @property
    def who(self) -> str:
        """How messages about it begin."""
        ...

    def source(self, path: str | Path) -> Path:
        """A path of the host that a task reads."""
        ...

    async def ansible_environment(self) -> Environment:
        """What Ansible is to see of it."""
        ...


async def apply(
    fs: Target,
    *,
    variables: Mapping[str, Any],
    inputs: Inputs | None,
    near: Sequence[Path],
    playbook: str | Path | None,
    role: str | Path | None,
    extra_vars: Mapping[str, object] | None,
    tags: str | Sequence[str] | None,
    outside: str | Sequence[str],
    timeout_s: float,
) -> PlaybookResult:
    """Apply a playbook, or a role by the path of its folder, from outside.

    :param variables: of the task; those that JSON can hold are handed on.
    :param inputs: what the task has read of the host, where that counts.
    :param near: folders of the task, in which what is read counts.
    """
    if (playbook is None) == (role is None):
        raise AnsibleError(f"{fs.who}: try: ansible('site.yml'), or ansible(role='roles/web')")
    environment = await fs.ansible_environment()
    every = {**variables, **(extra_vars or {})}
    kept = {name: value for name, value in every.items() if _is_plain(value)}

    async def run(path: Path) -> PlaybookResult:
        return await run_playbook(
            environment,
            path,
            timeout_s=timeout_s,
            options={"extra_vars": kept, "limit": fs.name, "tags": tags, "outside": outside},
        )

    if role is not None:
        folder = await asyncio.to_thread(fs.source, role)
        with tempfile.TemporaryDirectory(prefix="carthage-") as work:
            path = Path(work) / f"{folder.name}.yml"
            play = {"hosts": fs.name, "gather_facts": True, "roles": [{"role": str(folder)}]}
            path.write_text(json.dumps([play]))
            result = await run(path)
            await asyncio.to_thread(_remember, inputs, near, folder.absolute(), result)
    else:
        assert playbook is not None
        path = await asyncio.to_thread(fs.source, playbook)
        result = await run(path.absolute())
        await asyncio.to_thread(_remember, inputs, near, path.absolute(), result)
    if inputs is not None:
        version = await asyncio.to_thread(program_version)
        inputs.add_program("ansible-core", version)
    return result


def _remember(
    inputs: Inputs | None, near: Sequence[Path], start: Path, result: PlaybookResult
) -> None:
    """Take in what was read: what is beside a playbook, the configuration, roles, files.

    What Ansible reads before the first play (roles, tasks that are imported) is known by the tasks
    that ran, the rest by what was opened.

    :param start: a playbook, or the folder of a role.
    """
    if inputs is None:
        return
    config, folder = find_config(start)
    # those that are not there, too: they would count if they were
    beside = [] if start.is_dir() else [start.parent / name for name in _BESIDE]
    read = {*beside, *([config] if config else [])}
    for task in result.tasks:
        path = re.sub(r":\d+$", "", task.path)
        file = folder / path if path else start
        if not file.is_absolute() or not file.exists():
            file = result.playbook.parent / path
        read.add(_role_of(file))
    near = (folder, start.parent, *near)
    without = (result.log.parents[1], result.playbook)
    for file in result.reads:
        if (
            any(file.is_relative_to(place) for place in near)
            and not any(file.is_relative_to(place) for place in without)
            and not any(name in _INSTALLED for name in file.parts)
        ):
            read.add(_role_of(file))
    for file in sorted(read - {result.playbook}):
        if file.exists() or file in beside:
            inputs.add(file)


def _role_of(file: Path) -> Path:
    """The folder of the role that a file is in; itself where it is in none."""
    parts = file.parts
    if "roles" not in parts[:-2]:
        return file
    place = len(parts) - 1 - parts[::-1].index("roles")
    return Path(*parts[: place + 2])


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(one) for one in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(one) for key, one in value.items())
    return value is None or isinstance(value, str | int | float)
