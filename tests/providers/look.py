"""A program: builds machines, and prints what their processes have of whoever has started it."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from pytest_carthage import Layout, Machine, Network
from pytest_carthage.images.builder import ensure
from pytest_carthage.portal import Portal
from pytest_carthage.providers.netns import NetnsProvider
from tests.providers.conftest import DEBIAN
from tests.support.layouts import building

#: what a process has: name to what prints it
FACTS = {
    "niceness": "nice",
    "policy": "cut -d' ' -f41 /proc/self/stat",
    "io": "ionice",
    "oom_score_adj": "cat /proc/self/oom_score_adj",
    "personality": "cat /proc/self/personality",
    "coredump_filter": "cat /proc/self/coredump_filter",
    "timer slack": "cat /proc/self/timerslack_ns",
    "processors": "nproc",
    "umask": "umask",
    "files": "ulimit -Sn",
    "files, hard": "ulimit -Hn",
    "processes": "awk '/Max processes/ {print $3}' /proc/self/limits",
    "core": "ulimit -Sc",
    "time": "ulimit -t",
    "memory": "ulimit -v",
}
#: one fact a line
LOOK = "; ".join(FACTS.values())


class Bare(Layout):
    """What everybody can build."""

    lan = Network("10.0.0.0/24")
    bare = Machine(links={"eth0": lan.at(".1")})


class All(Bare):
    """One of each kind."""

    plain = Machine(
        DEBIAN,
        links={"eth0": Bare.lan.at(".2")},
        command=["sh", "-c", f"({LOOK}) > /srv/main 2>&1; touch /srv/done; sleep 1000"],
    )
    booted = Machine(DEBIAN, links={"eth0": Bare.lan.at(".3")}, init="systemd")


#: in the environment of the starter
TOKEN = "TOKEN_OF_A_ROBOT=sesame-open-"
#: of /proc/PID/status: what is inherited
STATUS = ("Umask", "SigBlk", "SigIgn", "NoNewPrivs", "Seccomp", "CapAmb", "Cpus_allowed_list")


def descendants(root: int) -> Iterator[int]:
    """Processes that descend from one, and that one."""
    yield root
    for task in Path(f"/proc/{root}/task").glob("*/children"):
        for child in task.read_text().split():
            yield from descendants(int(child))


def looked_into(pid: int) -> dict[str, str]:
    """What a process has of its starter, as the host sees it."""
    folder = Path(f"/proc/{pid}")
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    names = {variable.partition("=")[0] for variable in environ(pid)} - {"CARTHAGE_STATE"}
    return {
        "environ": " ".join(sorted(names - {""})),
        "limits": (folder / "limits").read_text(),
        "oom_score_adj": (folder / "oom_score_adj").read_text().strip(),
        "cgroup": (folder / "cgroup").read_text(),
        "personality": (folder / "personality").read_text().strip(),
        "timer slack": (folder / "timerslack_ns").read_text().strip(),
        "niceness": fields[16],
        "policy": fields[38],
        **{name: status[name].strip() for name in STATUS},
        "descriptors of others": " ".join(
            sorted({str(link.readlink()) for link in (folder / "fd").iterdir()} & own_files())
        ),
        "token in memory": str(has_in_memory(pid, TOKEN.partition("=")[2].encode())),
    }


def environ(pid: int) -> list[str]:
    """The variables that a process was started with."""
    return Path(f"/proc/{pid}/environ").read_text().split("\0")


def own_files() -> set[str]:
    """What this process has open and has from its starter."""
    links = [Path(f"/proc/self/fd/{number}") for number in range(3)]
    return {str(link.readlink()) for link in links} - {"/dev/null"}


def has_in_memory(pid: int, text: bytes) -> bool:
    """Whether something is anywhere in what a process may write to."""
    folder = Path(f"/proc/{pid}")
    with (folder / "maps").open() as maps, (folder / "mem").open("rb", 0) as memory:
        for line in maps:
            where, rights, *rest = line.split()
            if "w" not in rights or rest[-1] in ("[vvar]", "[vsyscall]"):
                continue
            begin, end = (int(number, 16) for number in where.split("-"))
            memory.seek(begin)
            with contextlib.suppress(OSError):
                if text in memory.read(end - begin):
                    return True
    return False


def processes(site: Bare) -> dict[str, dict[str, str]]:
    """Those of a run, each by what it is called."""
    folder = Path(site.aio.folder).parents[1]
    supervisor = int((folder / "lock").read_text())
    site.bare.run("sleep 1000 </dev/null >/dev/null 2>&1 &")
    seen = {
        Path(f"/proc/{pid}/comm").read_text().strip(): looked_into(pid)
        for pid in descendants(supervisor)
    }
    # else it would prove nothing that nobody else has it
    assert has_in_memory(os.getpid(), TOKEN.partition("=")[2].encode())
    read = site.bare.run("cat /proc/[0-9]*/environ", check=False).stdout
    seen["sleep"]["read in the machine"] = str("sesame-open-" in read)
    return seen


def main(layout: str) -> None:
    """Print a JSON object: who looked, to what was seen."""
    with (
        contextlib.closing(Portal()) as portal,
        building(portal, {"netns": NetnsProvider}) as build,
    ):
        if layout == "processes":
            print(json.dumps(processes(build(Bare))))
            return
        if layout == "bare":
            print(json.dumps({"command": build(Bare).bare.run(LOOK).lines}))
            return
        portal.call(lambda: ensure(DEBIAN, portal=portal, note=lambda who, text: None))
        site = build(All)
        seen = {name: site[name].run(LOOK).lines for name in ("bare", "plain", "booted")}
        site.plain.run("until test -e /srv/done; do sleep 0.02; done")
        seen["main process"] = site.plain.run("cat /srv/main").lines
        seen["unit"] = site.booted.run(["systemd-run", "-qP", "sh", "-c", LOOK]).lines
        print(json.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1])
