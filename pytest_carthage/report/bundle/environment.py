"""What a bundle has of one environment, its machines included."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_carthage.channels.log import Log
from pytest_carthage.report import drawing
from pytest_carthage.report.bundle.machine import write_machine
from pytest_carthage.report.bundle.pages import Pages
from pytest_carthage.report.bundle.whole import WholeLogs

if TYPE_CHECKING:
    from pytest_carthage.planning.plan import Plan
    from pytest_carthage.report.bundle.observable import Observable, Recording

__all__ = ["write_environment"]

_PACKETS = "packets.pcapng"


async def write_environment(
    environment: Observable,
    folder: Path,
    *,
    since_s: float,
    until_s: float | None = None,
    since: Mapping[str, int] = MappingProxyType({}),
    whole: WholeLogs | None = None,
) -> dict[str, Any]:
    """Write everything about one environment; returns its part of the summary.

    :param folder: of the bundle; the environment has one of its own in it.
    :param since_s: UNIX time; what was over by then is of no interest.
    :param until_s: UNIX time; packets that came later are of no interest.
    :param since: name of a log to the bytes that it had at ``since_s``; none: it was not there.
    :param whole: keeps what of logs is left out.
    """
    whole = WholeLogs(folder.parent) if whole is None else whole
    pages = Pages(folder / environment.name)
    plan = environment.plan
    _write_drawings(pages, plan)
    earlier = _write_logs(pages, environment, since_s, whole)
    packets: dict[str, Any] = {}
    if environment.recording is not None:
        packets = await _write_packets(
            pages, environment.recording, since_s=since_s, until_s=until_s
        )
    faults = [
        fault.record()
        for fault in environment.disturbances
        if fault.healed_s is None or fault.healed_s >= since_s
    ]
    if faults:
        pages.json("faults.json", lambda: faults)
    gates = [gate.as_json() for gate in environment.gates]
    if gates:
        pages.json("gates.json", lambda: gates)
    return {
        "layout": plan.layout,
        "files": pages.files,
        "missing": pages.missing,
        "meanwhile": await _meanwhile(pages, environment, since_s),
        **({"earlier": earlier} if earlier else {}),
        **({"packets": packets} if packets else {}),
        "machines": await _write_machines(
            environment, pages.folder, since_s=since_s, since=since, whole=whole
        ),
    }


def _write_logs(
    pages: Pages, environment: Observable, since_s: float, whole: WholeLogs
) -> list[str]:
    """Write what Ansible and others have logged; returns where the logs of earlier plays are."""
    earlier: list[str] = []
    for log in sorted(environment.logs.glob("ansible-*.log")):
        if log.stat().st_mtime >= since_s:
            pages.text(log.name, partial(log.read_text, errors="replace"))
            continue
        try:
            earlier.append(str(whole.keep(environment.name, log)))
        except OSError as error:
            pages.lacks(log.name, error)
    for log in (*_others(environment, since_s), *_words(environment.logs)):
        pages.text(log.name, lambda log=log: Log(log).tail())  # type: ignore[misc]
    return earlier


def _others(environment: Observable, since_s: float) -> list[Path]:
    """Logs of what else works for an environment, as clients of DHCP and deputies."""
    of_machines = {f"{name}.log" for name in environment.plan.machines}
    return [
        log
        for log in sorted(environment.logs.glob("*.log"))
        if log.name not in of_machines
        and not log.name.startswith("ansible-")
        and (info := log.stat()).st_size
        and info.st_mtime >= since_s
    ]


async def _meanwhile(pages: Pages, environment: Observable, since_s: float) -> list[str]:
    try:
        return list(await environment.circumstances(since_s))
    except Exception as error:  # what else there is is worth having
        pages.lacks("meanwhile", error)
        return []


def _words(logs: Path) -> list[Path]:
    """Logs of the processes that hold an environment: they tell how one of them ended."""
    run = logs.parents[2]
    files = (logs.parent / "fabric.log", run / "supervisor.log")
    return [file for file in files if file.is_file() and file.stat().st_size]


def _write_drawings(pages: Pages, plan: Plan) -> None:
    for name, draw in (
        ("graph.txt", drawing.text),
        ("graph.mmd", drawing.mermaid),
        ("graph.svg", drawing.svg),
    ):
        pages.text(name, partial(draw, plan))


async def _write_packets(
    pages: Pages, recording: Recording, *, since_s: float, until_s: float | None
) -> dict[str, Any]:
    path = pages.folder / _PACKETS
    try:
        path.touch(mode=0o600)
        slices = await recording.write(path, since_s=since_s, until_s=until_s)
    except Exception as error:  # a full disk must not cost all the rest
        pages.lacks(_PACKETS, error)
        return {}
    pages.files.append(_PACKETS)
    return {
        part.network: {"packets": part.packets, **({"lost": part.lost} if part.lost else {})}
        for part in slices
    }


async def _write_machines(
    environment: Observable,
    folder: Path,
    *,
    since_s: float,
    since: Mapping[str, int],
    whole: WholeLogs,
) -> dict[str, Any]:
    machines = environment.plan.machines
    live = {machine.name: machine for machine in environment.handles()}
    written = await asyncio.gather(
        *(
            write_machine(
                live.get(name),
                folder / name,
                environment.logs / f"{name}.log",
                has_journal=planned.init == "systemd",
                since_s=since_s,
                since=since.get(f"{name}.log", 0),
                remark=partial(whole.remark, environment.name, environment.logs / f"{name}.log"),
            )
            for name, planned in machines.items()
        )
    )
    return {
        name: {
            "target": planned.target,
            "hostname": planned.hostname,
            "live": name in live,
            "way": getattr(live.get(name), "way", None),
            "files": own.pages.files,
            "missing": own.pages.missing,
            "last_command": own.last_command,
            "last_lines": own.last_lines,
        }
        for (name, planned), own in zip(machines.items(), written, strict=True)
    }
