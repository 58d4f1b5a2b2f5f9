"""What is said on the command line of Ansible's programs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_carthage.bridge import author_folder
from pytest_carthage.errors import AnsibleError
from pytest_carthage.work.ansible.record import write_record

if TYPE_CHECKING:
    from pytest_carthage.handles.ansible_options import AnsibleOptions, PlaybookOptions

__all__ = ["CommandLine"]

_MOST_VERBOSE = 6
_VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
#: prints a password, which so is in no file and on no command line
_PRINTER = '#!/bin/sh\nprintf "%s" "${NAME}"\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """The options of one run, checked: see :class:`.PlaybookOptions` for what they mean."""

    extra_vars: tuple[Mapping[str, object] | Path, ...] = ()
    limit: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    skip_tags: tuple[str, ...] = ()
    start_at_task: str | None = None
    check: bool = False
    diff: bool = False
    verbosity: int = 0
    forks: int | None = None
    force_handlers: bool = False
    flush_cache: bool = False
    keep_facts: bool = False
    vault_ids: tuple[str, ...] = ()
    vault_password_file: tuple[Path, ...] = ()
    vault_password_env: str | None = None
    become_password_env: str | None = None
    connection_password_env: str | None = None
    become: bool = False
    become_user: str | None = None
    become_method: str | None = None
    user: str | None = None
    module_path: tuple[Path, ...] = ()
    inventory_extra: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    outside: tuple[str, ...] = ()

    @classmethod
    def of(cls, options: AnsibleOptions | PlaybookOptions) -> CommandLine:
        """Read what an author gave.

        :raises AnsibleError: something of it is wrong; tells what, and what to give instead.
        """
        given: dict[str, Any] = {k: v for k, v in options.items() if v is not None}
        if unknown := given.keys() - {one.name for one in fields(cls)}:
            raise TypeError(f"Ansible has no option {', '.join(map(repr, sorted(unknown)))}")
        readers: dict[str, Callable[[str, object], Any]] = {
            "extra_vars": _extra_vars,
            "forks": _forks,
            "verbosity": _verbosity,
            "environment": _environment,
            "vault_ids": _vault_ids,
            **dict.fromkeys(("limit", "tags", "skip_tags", "outside"), _words),
            **dict.fromkeys(("vault_password_file", "module_path", "inventory_extra"), _paths),
            **dict.fromkeys(
                ("check", "diff", "force_handlers", "flush_cache", "keep_facts", "become"), _flag
            ),
        }
        read = {name: readers.get(name, _text)(name, value) for name, value in given.items()}
        line = cls(**read)
        for kind in ("vault", "become", "connection"):
            line._check_password(f"{kind}_password_env")
        return line

    def _check_password(self, argument: str) -> None:
        variable = getattr(self, argument)
        if variable is None:
            return
        if not _VARIABLE.fullmatch(variable):
            # what was given may be the password itself
            raise AnsibleError(
                f"{argument}: this is no name of an environment variable; "
                f'try: {argument}="SHOP_PASSWORD", with the password in that variable'
            )
        if variable not in os.environ and variable not in self.environment:
            raise AnsibleError(
                f"{argument}: the environment has no variable {variable!r}; "
                f"try: export {variable}=... where the tests are started"
            )

    @property
    def pattern(self) -> str | None:
        """The limit as one pattern."""
        return ",".join(self.limit) if self.limit else None

    def arguments(self, work: Path, stem: str) -> list[str]:
        """Options that each program takes; without inventories and limit, which need a layout.

        :param work: a folder for files that only the owner reads; their names begin with ``stem``.
        :raises AnsibleError: JSON cannot hold a variable.
        """
        told: list[str] = []
        for number, variables in enumerate(self.extra_vars, 1):
            if isinstance(variables, Path):
                file = variables
            else:
                file = work / f"{stem}.extra{'' if number == 1 else f'-{number}'}.json"
                write_record(file, variables, "extra_vars")
            told += ["--extra-vars", f"@{file}"]
        told += [
            f"--{name.replace('_', '-')}"
            for name in ("check", "diff", "flush_cache", "become")
            if getattr(self, name)
        ]
        if self.verbosity:
            told.append(f"-{'v' * self.verbosity}")
        told += [
            f"--{name.replace('_', '-')}={value}"
            for name in ("forks", "become_user", "become_method", "user")
            if (value := getattr(self, name)) is not None
        ]
        told += [f"--vault-id={vault_id}" for vault_id in self.vault_ids]
        told += [f"--vault-password-file={path}" for path in self.vault_password_file]
        told += [f"--module-path={path}" for path in self.module_path]
        for kind in ("vault", "become", "connection"):
            if (variable := getattr(self, f"{kind}_password_env")) is not None:
                told.append(f"--{kind}-password-file={_printer(work, variable)}")
        return told

    def playbook_arguments(self) -> list[str]:
        """Options that ``ansible-playbook`` alone takes."""
        told = [f"--tags={tag}" for tag in self.tags]
        told += [f"--skip-tags={tag}" for tag in self.skip_tags]
        if self.start_at_task is not None:
            told.append(f"--start-at-task={self.start_at_task}")
        if self.force_handlers:
            told.append("--force-handlers")
        return told


def _printer(work: Path, variable: str) -> Path:
    """A program that prints an environment variable."""
    program = work / f"print-{variable}"
    new = program.with_name(f"{program.name}.{os.getpid()}-{os.urandom(4).hex()}")
    new.write_text(_PRINTER.replace("NAME", variable))
    new.chmod(0o700)
    new.replace(program)
    return program


def _wrong(name: str, value: object, remedy: str) -> AnsibleError:
    return AnsibleError(f"{name}: {value!r} is of type {type(value).__name__}; try: {remedy}")


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong(name, value, f"{name}=True")
    return value


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise _wrong(name, value, f'{name}="..."')
    if not value.strip():
        raise AnsibleError(f"{name} is empty; try: leave it out")
    return value


def _words(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,) if value else ()
    if isinstance(value, Mapping) or not isinstance(value, Iterable):
        raise _wrong(name, value, f'{name}=["..."]')
    return tuple(_text(name, word) for word in value)


def _forks(name: str, value: object) -> int:
    if type(value) is not int or value < 1:
        raise AnsibleError(f"{name}: {value!r} is no number of machines; try: {name}=10")
    return value


def _verbosity(name: str, value: object) -> int:
    if type(value) is not int or not 0 <= value <= _MOST_VERBOSE:
        raise AnsibleError(f"{name}: {value!r} is no number from 0 to {_MOST_VERBOSE}")
    return value


def _environment(name: str, value: object) -> Mapping[str, str]:
    if not isinstance(value, Mapping):
        raise _wrong(name, value, f'{name}={{"ANSIBLE_TIMEOUT": "30"}}')
    for variable, text in value.items():
        if not isinstance(variable, str) or not isinstance(text, str):
            raise AnsibleError(
                f"{name}: the value of {variable!r} is of type {type(text).__name__}; "
                f'try: {name}={{"{variable}": "..."}}'
            )
    return MappingProxyType(dict(value))


def _paths(name: str, value: object) -> tuple[Path, ...]:
    several = [value] if isinstance(value, str | os.PathLike) else value
    if isinstance(several, Mapping) or not isinstance(several, Iterable):
        raise _wrong(name, value, f'{name}="a path"')
    return tuple(_path(name, path) for path in several)


def _path(name: str, value: object) -> Path:
    """An absolute path of something that exists."""
    if not isinstance(value, str | os.PathLike):
        raise _wrong(name, value, f'{name}="a path"')
    path = (author_folder() / Path(value).expanduser()).absolute()
    if not path.exists():
        raise AnsibleError(f"{name}: there is no {str(path)!r}")
    return path


def _vault_ids(name: str, value: object) -> tuple[str, ...]:
    vault_ids = []
    for vault_id in _words(name, value):
        label, at, source = vault_id.rpartition("@")
        if source in ("prompt", "prompt_ask_vault_pass"):
            raise AnsibleError(
                f"{name}: {vault_id!r} asks, and nobody is there to answer; "
                f'try: {name}="{label or "prod"}@a file or a program", or '
                'vault_password_env="the name of an environment variable"'
            )
        vault_ids.append(f"{label}{at}{_path(name, source)}")
    return tuple(vault_ids)


def _extra_vars(name: str, value: object) -> tuple[Mapping[str, object] | Path, ...]:
    several = [value] if isinstance(value, str | os.PathLike | Mapping) else value
    if not isinstance(several, Sequence):
        raise _wrong(name, value, f'{name}={{"size": 3}}')
    read: list[Mapping[str, object] | Path] = []
    for part in several:
        if isinstance(part, Mapping):
            if part:
                read.append(part)
        elif isinstance(part, str) and not part.startswith("@"):
            raise AnsibleError(
                f"{name}: {part!r} is neither variables nor a file of them; "
                f'try: {name}={{"size": 3}}, or {name}="@{part or "prod.yml"}" for a file'
            )
        else:
            read.append(_path(name, part[1:] if isinstance(part, str) else part))
    return tuple(read)
