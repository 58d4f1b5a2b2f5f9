"""Ansible stages: the real ``ansible-playbook``, run from the host against a live layout.

Nothing of Ansible is imported here: it may live in another environment, or be absent. Its
plugins in ``plugins/`` are loaded by ``ansible-playbook`` itself.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.errors import AnsibleError
from pytest_carthage.handles.playbook import HostResult, PlaybookResult, Status, TaskResult
from pytest_carthage.work.ansible.command import CommandLine
from pytest_carthage.work.ansible.failure import cause, failure
from pytest_carthage.work.ansible.hearing import Hearing, sums
from pytest_carthage.work.ansible.installation import find_config
from pytest_carthage.work.ansible.running import new_log, run

if TYPE_CHECKING:
    from pytest_carthage.handles.ansible_options import PlaybookOptions
    from pytest_carthage.planning.plan import Plan
    from pytest_carthage.work.ansible.environment import Environment

__all__ = ["HostResult", "PlaybookResult", "Status", "TaskResult", "run_playbook"]


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
    if not playbooks:
        raise AnsibleError("no playbook is given; try: ansible('site.yml')")
    paths = [_playbook(Path(playbook), environment.plan) for playbook in playbooks]
    line = CommandLine.of(options or {})
    (environment.folder / "ansible").mkdir(mode=0o700, exist_ok=True)
    config, folder = find_config(paths[0])
    hearing = Hearing(
        environment=environment,
        playbook=paths[0],
        subject=f"ansible {' '.join(path.name for path in paths)}",
        log=new_log(environment, paths[0].stem),
    )
    status = await run(
        environment,
        "ansible-playbook",
        [*map(str, paths), *line.playbook_arguments()],
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
