"""Ansible stages: the real ``ansible-playbook``, run from the host against a live layout.

Nothing of Ansible is imported here: it may live in another environment, or be absent. Its
plugins in ``plugins/`` are loaded by ``ansible-playbook`` itself.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pytest_carthage.errors import (
    AnsibleError,
    TimeLimitError,
)
from pytest_carthage.fabric.wire import client
from pytest_carthage.handles.playbook import HostResult, PlaybookResult, Status, TaskResult
from pytest_carthage.work.ansible.failure import cause, failure
from pytest_carthage.work.ansible.hearing import Hearing, sums
from pytest_carthage.work.ansible.installation import find_config, find_program, make_env
from pytest_carthage.work.ansible.inventory import check_limit, inventory
from pytest_carthage.work.ansible.process import execute
from pytest_carthage.work.ansible.record import write_record

if TYPE_CHECKING:
    from pytest_carthage.planning.plan import Plan
    from pytest_carthage.work.ansible.environment import Environment

__all__ = ["HostResult", "PlaybookResult", "Status", "TaskResult", "run_playbook"]

#: where Pythons are in machines, in the order in which they are preferred
_INTERPRETERS = ("/usr/bin/python3", "/usr/local/bin/python3")


async def run_playbook(
    environment: Environment,
    playbook: str | os.PathLike[str],
    *,
    extra_vars: Mapping[str, object] | None = None,
    limit: str | Sequence[str] | None = None,
    tags: str | Sequence[str] | None = None,
    check: bool = False,
    timeout_s: float = 3600.0,
    inventory_extra: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
) -> PlaybookResult:
    """Run a playbook of a production tree against the machines of a live layout.

    The tree's ``ansible.cfg`` (beside the playbook or above it), roles, ``group_vars``
    and ``host_vars`` count as they do in production. How machines are reached, and what
    the layout declares as their ``variables``, wins over the tree. Plays do not leave the
    layout: a host that is no machine of it is unreachable.

    :param extra_vars: variables above all others; what JSON can hold.
    :param limit: machines and groups, in Ansible's pattern language or as a list.
    :param check: predict changes only (``--check``).
    :param timeout_s: seconds that the playbook may take.
    :param inventory_extra: further inventory sources, as in a production inventory whose
        ``group_vars`` are wanted; their hosts that are no machines of the layout are left out.
    :raises AnsibleError: the playbook is missing, wrong, matches no machine, or a task failed.
    :raises TimeLimitError: it did not end in time; every process of it was killed.
    :raises HostError: there is no ``ansible-playbook`` on this host.
    """
    path = _playbook(Path(playbook), environment.plan)
    patterns = _joined(limit)
    if patterns is not None and inventory_extra is None:
        check_limit(environment.plan, patterns)
    program = find_program()
    work = environment.folder / "ansible"
    work.mkdir(mode=0o700, exist_ok=True)
    log = _new_log(environment.folder / "logs", path)
    sources = _sources(inventory_extra)
    command = [program, str(path)]
    for source in sources:
        command += ["--inventory", str(source)]
    inventory_file = work / f"{log.stem}.inventory.json"
    # the last one wins
    command += ["--inventory", str(inventory_file)]
    if sources:
        # a production inventory names the real machines
        command += ["--limit", _within(environment.plan, patterns)]
    elif patterns is not None:
        command += ["--limit", patterns]
    if tags is not None and (joined := _joined(tags)):
        command += ["--tags", joined]
    if check:
        command.append("--check")
    if extra_vars:
        extra_file = work / f"{log.stem}.extra.json"
        write_record(extra_file, extra_vars, "extra_vars")
        command += ["--extra-vars", f"@{extra_file}"]
    write_record(
        inventory_file,
        inventory(
            environment.plan,
            socket=environment.socket,
            interpreters=await asyncio.to_thread(
                _interpreters, environment.socket, environment.plan
            ),
        ),
        "variables of the layout's machines",
    )
    config, folder = find_config(path)
    hearing = Hearing(environment=environment, playbook=path, log=log)
    hearing.tell("start")
    try:
        async with asyncio.timeout(timeout_s):
            status = await execute(
                command,
                env=make_env(config, work, len(environment.plan.machines)),
                cwd=folder,
                log=log,
                reads=hearing.reads,
                hear=hearing.hear,
            )
    except TimeoutError as error:
        message = (
            f"{hearing.subject}: not done after {timeout_s:g} s; {hearing.last_seen()}; log: {log}"
        )
        hearing.tell("failed", f"not done after {timeout_s:g} s")
        raise TimeLimitError(message) from error
    except BaseException:
        hearing.tell("failed", "cancelled")
        raise
    result = hearing.result()
    if status != 0 or not result.ok or not result.hosts:
        hearing.tell("failed", cause(result) or f"exit status {status}")
        raise AnsibleError(failure(environment, result, status), result)
    hearing.tell("done", sums(result))
    return result


def _playbook(path: Path, plan: Plan) -> Path:
    full = path.absolute()
    if full.is_file():
        return full
    folder = full.parent
    if full.is_dir():
        fault, folder = "it is a folder", full
    elif folder.is_dir():
        fault = "there is no such file"
    else:
        fault = f"there is no folder {str(folder)!r}"
    there = sorted(path.name for path in folder.glob("*.y*ml")) if folder.is_dir() else []
    raise AnsibleError(
        f"playbook {str(path)!r} for layout {plan.layout!r}: {fault} (looked for {str(full)!r}); "
        + (
            f"playbooks there: {', '.join(there)}"
            if there
            else "try: a path from the folder in which pytest was started, or an absolute one"
        )
    )


def _joined(patterns: str | Sequence[str] | None) -> str | None:
    if patterns is None or isinstance(patterns, str):
        return patterns
    return ",".join(patterns)


def _sources(extra: object) -> list[Path]:
    """Further inventory sources.

    :raises AnsibleError: one is missing.
    """
    if extra is None:
        return []
    many = [extra] if isinstance(extra, str | os.PathLike) else cast("Iterable[str]", extra)
    sources = [Path(one).absolute() for one in many]
    for source in sources:
        if not source.exists():
            raise AnsibleError(f"inventory_extra: there is no {str(source)!r}")
    return sources


def _within(plan: Plan, patterns: str | None) -> str:
    """A limit that holds only machines of the layout (and this computer itself)."""
    machines = [*plan.machines, "localhost"]
    if patterns is None:
        return ",".join(machines)
    # Ansible intersects what is named first with each "&" part; a part is one pattern
    return f"{patterns},&~^({'|'.join(re.escape(name) for name in machines)})$"


def _new_log(folder: Path, playbook: Path) -> Path:
    """The path of a log that no earlier run of the same playbook has used."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        suffix = "" if number == 1 else f"-{number}"
        log = folder / f"ansible-{playbook.stem}{suffix}.log"
        try:
            log.touch(mode=0o600, exist_ok=False)
        except FileExistsError:
            continue
        return log
    raise AssertionError


def _interpreters(socket: Path, plan: Plan) -> dict[str, str]:
    """Machine name to the Python in it; a machine without one is left out.

    It saves Ansible a discovery per machine. A machine that does not answer is left to
    Ansible too, which will tell.
    """
    interpreters = {}
    for name in plan.machines:
        with suppress(OSError, client.Refused), client.connect(str(socket), name) as agent:
            for path in _INTERPRETERS:
                with suppress(client.Refused):
                    agent.request("stat", path=path)
                    interpreters[name] = path
                    break
    return interpreters
