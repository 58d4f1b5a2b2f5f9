"""Where things are that a message names, once their environment is gone."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Whereabouts"]

#: of the commands that messages name, those that need a live machine
_COMMAND = re.compile(r"pytest-carthage (logs|shell|exec)(?: (?:([\w.-]+)/)?(?!-)([\w.-]*\w))?")


@dataclass(slots=True)
class Whereabouts:
    """Puts in place of what a message names of an environment what stays when that is gone.

    A path of a file leads into the bundle, where that has it; ``pytest-carthage logs MACHINE``
    becomes a look at the log there; what needs the machine itself says how to have it stay.
    """

    #: path of a file that goes to that of one that stays
    files: dict[str, str] = field(default_factory=dict)
    #: name of an environment that goes to each of its machines, with the log that stays; None:
    #: there is none
    machines: dict[str, dict[str, str | None]] = field(default_factory=dict)
    #: the command that would have had it stay
    otherwise: str = "pytest --keep-on-fail"

    def add(self, name: str, logs: Path, folder: Path, part: Mapping[str, Any]) -> None:
        """Take in an environment.

        :param logs: folder of its logs, which goes with it.
        :param folder: of the bundle.
        :param part: its part of the summary, see
            :func:`~pytest_carthage.report.bundle.environment.write_environment`.
        """
        inside = folder / name
        holders = {
            "fabric.log": logs.parent / "fabric.log",
            "supervisor.log": logs.parents[2] / "supervisor.log",
        }
        for file in part.get("files", ()):
            self.files[str(holders.get(file, logs / file))] = str(inside / file)
        for path in part.get("earlier", ()):
            self.files[str(logs / Path(path).name)] = path
        machines = self.machines.setdefault(name, {})
        for machine, values in part.get("machines", {}).items():
            log = None
            if "log.txt" in values["files"]:
                log = self.files[str(logs / f"{machine}.log")] = str(inside / machine / "log.txt")
            machines[machine] = log

    def __call__(self, text: str) -> str:
        """The message as it is true later."""
        for path in sorted(self.files, key=len, reverse=True):
            text = text.replace(path, self.files[path])
        return _COMMAND.sub(self._lasting, text) if self.machines else text

    def _lasting(self, match: re.Match[str]) -> str:
        command, environment, machine = match.groups()
        if environment is not None and environment not in self.machines:
            return match[0]
        logs = self._logs(self.machines if environment is None else (environment,), machine)
        if machine is not None and not logs:
            return match[0]
        log = next(iter(logs), None)
        if command == "logs" and log is not None:
            return f"less {log}"
        return f"{self.otherwise}, and then {match[0]}"

    def _logs(self, environments: Collection[str], machine: str | None) -> list[str | None]:
        return [
            self.machines[name][machine]
            for name in environments
            if machine is not None and machine in self.machines[name]
        ]
