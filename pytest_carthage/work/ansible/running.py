"""One run of a program of Ansible: its inventory and environment made, started, and heard."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING

from pytest_carthage.errors import TimeLimitError
from pytest_carthage.fabric.wire import client
from pytest_carthage.work.ansible.facts import keep
from pytest_carthage.work.ansible.installation import find_program, make_env
from pytest_carthage.work.ansible.inventory import by_ansibles_names, check_pattern, inventory
from pytest_carthage.work.ansible.process import execute
from pytest_carthage.work.ansible.record import write_record
from pytest_carthage.work.ansible.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pytest_carthage.work.ansible.command import CommandLine
    from pytest_carthage.work.ansible.environment import Environment
    from pytest_carthage.work.ansible.hearing import Hearing

__all__ = ["find_interpreters", "new_log", "run"]

#: where Pythons are in machines, in the order in which they are preferred
_INTERPRETERS = ("/usr/bin/python3", "/usr/local/bin/python3")


def new_log(environment: Environment, name: str) -> Path:
    """The path of a log that no earlier run of the same thing has used."""
    folder = environment.folder / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        suffix = "" if number == 1 else f"-{number}"
        log = folder / f"ansible-{name}{suffix}.log"
        try:
            log.touch(mode=0o600, exist_ok=False)
        except FileExistsError:
            continue
        return log
    raise AssertionError


async def run(
    environment: Environment,
    program: str,
    arguments: list[str],
    *,
    line: CommandLine,
    hearing: Hearing,
    config: Path | None,
    folder: Path,
    timeout_s: float,
    patterns: Mapping[str, str] = MappingProxyType({}),
    more_env: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Run a program of Ansible against the machines of a live layout; returns its exit status.

    :param arguments: of this program alone; what the command line says comes after them.
    :param config: the tree's ``ansible.cfg``.
    :param folder: where to run it.
    :param patterns: argument to pattern of machines, which must mean something.
    :raises AnsibleError: something of the command line is wrong.
    :raises GateError: what it is to reach of the world cannot be reached.
    :raises TimeLimitError: it did not end in time; every process of it was killed.
    :raises HostError: there is no such program on this host.
    """
    work, log, plan = environment.folder / "ansible", hearing.log, environment.plan
    command = [find_program(program), *arguments, *line.arguments(work, log.stem)]
    env = make_env(config, work, len(plan.machines), line.environment) | dict(more_env)
    if line.keep_facts:
        env |= await asyncio.to_thread(keep, work, environment.socket, plan)
    settings = Settings(config, env)
    sources = (*settings.inventory, *line.inventory_extra)
    for source in sources:
        command += ["--inventory", str(source)]
    inventory_file = work / f"{log.stem}.carthage.json"
    # the last one wins
    command += ["--inventory", str(inventory_file)]
    if (pattern := line.pattern) is not None:
        command += ["--limit", by_ansibles_names(plan, pattern)]
        patterns = {**patterns, "limit": pattern}
    if not sources:  # else it is known when they have been read
        for argument, pattern in patterns.items():
            check_pattern(plan, argument, pattern)
    named = {name: by_ansibles_names(plan, pattern) for name, pattern in patterns.items()}
    interpreters = None
    if settings.interpreter is None:
        interpreters = await asyncio.to_thread(find_interpreters, environment.socket, plan.machines)
    write_record(
        inventory_file,
        inventory(plan, socket=environment.socket, interpreters=interpreters, patterns=named),
        "variables of the layout's machines",
    )
    hearing.tell("start")
    try:
        async with (
            asyncio.timeout(timeout_s),
            environment.ansible_station(line.outside, for_s=timeout_s) as station,
        ):
            return await execute(
                command,
                env=env,
                cwd=folder,
                log=log,
                reads=hearing.reads,
                hear=hearing.hear,
                station=station,
            )
    except TimeoutError as error:
        late = f"not done after {timeout_s:g} s"
        hearing.tell("failed", late)
        raise TimeLimitError(
            f"{hearing.subject}: {late}; {hearing.last_seen()}; log: {log}"
        ) from error
    except BaseException:
        hearing.tell("failed", "cancelled")
        raise


def find_interpreters(socket: Path, machines: Iterable[str]) -> dict[str, str]:
    """Machine name to the Python in it; a machine without one is left out.

    It saves Ansible a discovery per machine. A machine that does not answer is left to
    Ansible too, which will tell.
    """
    interpreters = {}
    for name in machines:
        with suppress(OSError, client.Refused), client.connect(str(socket), name) as agent:
            for path in _INTERPRETERS:
                with suppress(client.Refused):
                    agent.request("stat", path=path)
                    interpreters[name] = path
                    break
    return interpreters
