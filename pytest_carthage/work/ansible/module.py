"""One module of Ansible on machines of a live layout: the real ``ansible`` program."""

from __future__ import annotations

import difflib
import importlib.util
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.bridge import author_folder
from pytest_carthage.errors import AnsibleError, AnsibleModuleError
from pytest_carthage.handles.ansible_module import ModuleResult, ModuleResults
from pytest_carthage.work.ansible.command import CommandLine
from pytest_carthage.work.ansible.failure import complaint, indented
from pytest_carthage.work.ansible.hearing import Hearing, sums
from pytest_carthage.work.ansible.installation import find_config
from pytest_carthage.work.ansible.inventory import by_ansibles_names
from pytest_carthage.work.ansible.record import to_json
from pytest_carthage.work.ansible.running import new_log, run
from pytest_carthage.work.ansible.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_carthage.handles.ansible_options import AnsibleOptions
    from pytest_carthage.handles.playbook import TaskResult
    from pytest_carthage.work.ansible.environment import Environment

__all__ = ["run_module"]

_PLUGINS = Path(__file__).resolve().parent / "plugins"
_UNKNOWN = re.compile(r"Cannot resolve '|was not found in configured module paths|couldn't resolve")


async def run_module(
    environment: Environment,
    module: str,
    arguments: Mapping[str, object] | str | None = None,
    *,
    hosts: str | Sequence[str] = "all",
    playbook_dir: str | os.PathLike[str] | None = None,
    timeout_s: float = 600.0,
    options: AnsibleOptions | None = None,
) -> ModuleResults:
    """Run a module on machines of a live layout, as ``ansible`` does.

    :param arguments: what JSON can hold, or one text as ``ansible -a`` takes it.
    :param hosts: machines and groups, in Ansible's pattern language or as a list.
    :param playbook_dir: the folder of a tree that counts as if a playbook in it was run; by default
        the working directory.
    :raises AnsibleError: an option is wrong, no machine is meant, or the module failed.
    :raises TimeLimitError: it did not end in time; every process of it was killed.
    :raises HostError: there is no ``ansible`` on this host.
    """
    line = CommandLine.of(options or {})
    pattern = hosts if isinstance(hosts, str) else ",".join(hosts)
    folder = _folder(playbook_dir)
    work = environment.folder / "ansible"
    work.mkdir(mode=0o700, exist_ok=True)
    config, cwd = find_config(folder / "playbook")
    log = new_log(environment, f"module-{re.sub(r'[^A-Za-z0-9_.]', '_', module)}")
    hearing = Hearing(
        environment=environment, playbook=folder, subject=f"ansible -m {module}", log=log
    )
    values = work / f"{log.stem}.values"
    command = [by_ansibles_names(environment.plan, pattern), "--module-name", module]
    if arguments:
        given = arguments if isinstance(arguments, str) else to_json(arguments, "arguments")
        command += ["--args", given]
    if playbook_dir is not None:
        command += ["--playbook-dir", str(folder)]
    status = await run(
        environment,
        "ansible",
        command,
        line=line,
        hearing=hearing,
        config=config,
        folder=cwd,
        timeout_s=timeout_s,
        patterns={"hosts": pattern},
        more_env=_callbacks(config, line) | {"CARTHAGE_ANSIBLE_VALUES": str(values)},
    )
    heard = hearing.result()
    results = ModuleResults(
        module=module,
        hosts=_by_host(heard.tasks, values),
        absent=heard.absent,
        log=log,
        duration_s=heard.duration_s,
    )
    if status != 0 or not results.ok or not results.hosts:
        hearing.tell("failed", f"module {module} on {pattern}")
        raise AnsibleModuleError(_failure(environment, results, pattern, status), results)
    hearing.tell("done", sums(heard))
    return results


def _folder(playbook_dir: str | os.PathLike[str] | None) -> Path:
    folder = (author_folder() / (playbook_dir or ".")).absolute()
    if not folder.is_dir():
        raise AnsibleError(f"playbook_dir: there is no folder {str(folder)!r}")
    return folder


def _callbacks(config: Path | None, line: CommandLine) -> dict[str, str]:
    """Settings by which ``ansible`` loads our callbacks, and those of the tree if it says so."""
    env = {"ANSIBLE_LOAD_CALLBACK_PLUGINS": "1"}
    settings = Settings(config, {**os.environ, **line.environment})
    own = settings.get("ANSIBLE_LOAD_CALLBACK_PLUGINS", "bin_ansible_callbacks") or "no"
    if own.strip().lower() not in ("1", "yes", "true", "on", "y", "t"):
        env["ANSIBLE_CALLBACK_PLUGINS"] = str(_PLUGINS / "callback")
        env["ANSIBLE_CALLBACKS_ENABLED"] = "carthage_values"
        env["ANSIBLE_STDOUT_CALLBACK"] = "default"
    return env


def _by_host(tasks: tuple[TaskResult, ...], values: Path) -> dict[str, ModuleResult]:
    returned: dict[str, dict[str, Any]] = {}
    if values.exists():
        for record in map(json.loads, values.read_text(encoding="utf-8").splitlines()):
            returned[record["host"]] = record["values"]
    return {
        task.host: ModuleResult(
            host=task.host,
            status=task.status,
            values=returned.get(task.host, {}),
            message=task.message,
            duration_s=task.duration_s,
        )
        for task in tasks
    }


def _failure(environment: Environment, results: ModuleResults, pattern: str, status: int) -> str:
    plan = environment.plan
    subject = f"module {results.module!r} on layout {plan.layout!r} ({environment.name})"
    failed = [result for result in results.values() if not result.ok]
    if failed:
        first, *others = failed
        verb = "failed" if first.status == "failed" else "found no connection"
        text = f"{subject}: {verb} on {first.host!r}:\n{indented(first.message)}"
        if _UNKNOWN.search(first.message) and (near := _near(results.module)):
            text += f"\ndid you mean {' or '.join(map(repr, near))}?"
        if others:
            text += "\nit went wrong too on: " + ", ".join(repr(other.host) for other in others)
    elif status == 0:
        groups = sorted({group for one in plan.machines.values() for group in one.groups})
        text = (
            f"{subject}: hosts {pattern!r} means no machine; machines: "
            f"{', '.join(plan.machines)}; groups: {', '.join(groups) or 'none'}"
        )
    else:
        text = f"{subject}: gave up with exit status {status}:\n{indented(complaint(results.log))}"
    return f"{text}\nlog: {results.log}"


def _near(module: str) -> list[str]:
    """Names of Ansible's own modules that a name may have been meant for."""
    spec = importlib.util.find_spec("ansible")
    if spec is None or spec.origin is None:
        return []
    names = [file.stem for file in (Path(spec.origin).parent / "modules").glob("[a-z]*.py")]
    return difflib.get_close_matches(module.removeprefix("ansible.builtin."), names, n=3)
