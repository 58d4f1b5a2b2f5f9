"""Ansible stages: the real ``ansible-playbook``, run from the host against a live layout.

Nothing of Ansible is imported here: it may live in another environment, or be absent. Its
plugins in ``plugins/`` are loaded by ``ansible-playbook`` itself.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pytest_carthage.errors import AnsibleError
from pytest_carthage.handles.playbook import HostResult, PlaybookResult, Status, TaskResult
from pytest_carthage.work.ansible.failure import cause, failure
from pytest_carthage.work.ansible.hearing import Hearing, sums
from pytest_carthage.work.ansible.idempotence import refuse_changes
from pytest_carthage.work.ansible.installation import find_config
from pytest_carthage.work.ansible.plays import Play
from pytest_carthage.work.ansible.running import new_log, run

if TYPE_CHECKING:
    from pytest_carthage.handles.ansible_options import PlaybookOptions
    from pytest_carthage.work.ansible.environment import Environment

__all__ = ["HostResult", "PlaybookResult", "Status", "TaskResult", "run_play", "run_playbook"]


async def run_playbook(
    environment: Environment,
    *playbooks: str | os.PathLike[str],
    timeout_s: float = 3600.0,
    options: PlaybookOptions | None = None,
) -> PlaybookResult:
    """Run playbooks of a production tree against the machines of a live layout.

    The tree's ``ansible.cfg`` (beside the first playbook or above it), inventory, roles,
    ``group_vars`` and ``host_vars`` count as they do in production; hosts of its inventory that
    are no machines of the layout are left out. How machines are reached, and what
    the layout declares as their ``variables``, wins over the tree. Plays do not leave the
    layout: a host that is no machine of it is unreachable.

    :param timeout_s: seconds that it may take.
    :raises AnsibleError: an option or a playbook is wrong, no machine is meant, or a task failed.
    :raises TimeLimitError: it did not end in time; every process of it was killed.
    :raises HostError: there is no ``ansible-playbook`` on this host.
    """
    play = Play.of(environment.plan, *playbooks, options=options)
    return await run_play(environment, play, timeout_s=timeout_s)


async def run_play(
    environment: Environment, play: Play, *, timeout_s: float, idempotent: bool = False
) -> PlaybookResult:
    """Run what was checked already, see :func:`run_playbook`.

    :param idempotent: run it twice, and refuse what the second run changes.
    """
    if idempotent and play.line.check:
        raise AnsibleError(
            "idempotent=True with check=True: a run that changes nothing leaves a second one to "
            "foretell the same; try: one of them"
        )
    result = await _run(environment, play, timeout_s=timeout_s)
    if idempotent:
        refuse_changes(environment, await _run(environment, play.telling(), timeout_s=timeout_s))
    return result


async def _run(environment: Environment, play: Play, *, timeout_s: float) -> PlaybookResult:
    (environment.folder / "ansible").mkdir(mode=0o700, exist_ok=True)
    first, line = play.playbooks[0], play.line
    config, folder = find_config(first)
    hearing = Hearing(
        environment=environment,
        playbook=first,
        subject=f"ansible {play.names}",
        log=new_log(environment, first.stem),
    )
    status = await run(
        environment,
        "ansible-playbook",
        [*map(str, play.playbooks), *line.playbook_arguments()],
        line=line,
        hearing=hearing,
        config=config,
        folder=folder,
        timeout_s=timeout_s,
    )
    result = hearing.result()
    if status != 0 or not result.ok or not result.hosts:
        hearing.tell("failed", cause(result) or f"exit status {status}")
        raise AnsibleError(failure(environment, result, status), result)
    hearing.tell("done", sums(result))
    return result
