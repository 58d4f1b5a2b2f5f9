"""A target of a third party, whose machines outlive the fabric: as a cloud's would.

What exists is a file in a registry, and a process that sleeps. The registry is the folder
``$HUT``, and the only way to find anything again. A machine is reached by a deputy in the fabric.

Each step leaves a file ``at-STEP``. Who finds ``stop-STEP`` takes it away, and stops there for
ever. While there is a file ``stuck`` nothing can be destroyed, while there is ``silent`` nobody
tells what exists.

It is copied into a folder beside an entry point, and imports nothing of the tests.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_carthage.planning.plan import Plan, PlannedMachine
from pytest_carthage.provider import Channel, Context, Identity, Problem, Traits


def registry() -> Path:
    """Folder of all that exists."""
    return Path(os.environ["HUT"])


def reached(step: str) -> None:
    """Tell that a step is reached, and stop there for ever if that is asked for."""
    is_last = (registry() / f"stop-{step}").exists()
    if is_last:
        (registry() / f"stop-{step}").unlink()
    (registry() / f"at-{step}").touch()
    if is_last:
        time.sleep(600)


def records() -> Iterator[dict[str, Any]]:
    """What exists."""
    for path in registry().glob("*.json"):
        yield json.loads(path.read_text())


def exist(identity: Identity) -> str:
    """Make a hut; returns its id."""
    name = f"hut-{os.urandom(4).hex()}"
    tags = {"run": identity.run, "environment": identity.environment, "name": identity.name}
    record = {"id": name, "pid": _begin(), **tags}
    (registry() / f"{name}.json").write_text(json.dumps(record))
    return name


@dataclass(slots=True)
class HutMachine:
    identity: Identity
    channel: Channel


class HutProvider:
    kind = "hut"
    traits = Traits(root="existing", init=False, outside=True)

    def check(self, plan: Plan | None = None) -> Sequence[Problem]:
        return ()

    async def create(self, planned: PlannedMachine, context: Context) -> HutMachine:
        reached("asked")
        identity = context.identity
        name = exist(identity)
        reached("created")
        await context.intend(identity.with_detail(id=name))
        reached("detailed")
        await context.place(planned, "process")
        return HutMachine(identity.with_detail(id=name), await context.channel(planned.name))

    async def destroy(self, identity: Identity) -> None:
        with (registry() / "destroyed.log").open("a") as log:
            log.write(f"{identity.name} {dict(identity.detail)}\n")
        reached("destroying")
        for record in records():
            if all(record[key] == getattr(identity, key) for key in ("run", "environment", "name")):
                if (registry() / "stuck").exists():
                    raise RuntimeError(f"{record['id']} is still in use")
                _end(record["pid"])
                reached("half-destroyed")
                (registry() / f"{record['id']}.json").unlink()
        reached("destroyed")

    async def leftovers(self, run: str) -> Sequence[Identity]:
        if (registry() / "silent").exists():
            raise ConnectionError("no way to the huts")
        return [
            Identity(
                kind=self.kind, run=run, environment=record["environment"], name=record["name"]
            ).with_detail(id=record["id"])
            for record in records()
            if record["run"] == run
        ]


def _begin() -> int:
    """Start a process that outlives this one; returns its id."""
    sleeper = subprocess.Popen(["sleep", os.environ["HUT_SLEEP"]], start_new_session=True)
    sleeper.returncode = 0
    return sleeper.pid


def _end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    while not has_ended(pid):
        time.sleep(0.005)


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or nothing but its status is left."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
