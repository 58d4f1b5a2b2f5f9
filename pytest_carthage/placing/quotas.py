"""What a plan takes of what the kernel limits for all machines of a host together."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.errors import Problem
from pytest_carthage.fabric.host import sysctl

if TYPE_CHECKING:
    from pytest_carthage.planning.plan import Plan

__all__ = ["Demand", "problems"]

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """How much a plan has of what takes something of the host."""

    machines: int
    #: with a user namespace of their own
    containers: int = 0
    #: with systemd
    booted: int = 0
    links: int = 0
    #: pairs of machines on a network with IPv4: who may know whom, when all talk to all
    neighbours4: int = 0
    #: the same with IPv6
    neighbours6: int = 0
    #: whether what the kernel counts by users is counted for each container by itself, since each
    #: has an owner of its own on the host: see :mod:`pytest_carthage.fabric.container.users`
    is_apart: bool = False

    @classmethod
    def of(cls, plan: Plan, target: str, *, is_apart: bool = False) -> Demand:
        """That of a target's machines."""
        machines = [one for one in plan.machines.values() if one.target == target]
        links = [link for machine in machines for link in machine.links]
        return cls(
            machines=len(machines),
            containers=sum(1 for one in machines if one.image is not None),
            booted=sum(1 for one in machines if one.init is not None),
            links=len(links),
            neighbours4=_pairs(link.network for link in links if link.v4 is not None),
            neighbours6=_pairs(link.network for link in links if link.v6 is not None),
            is_apart=is_apart,
        )

    @classmethod
    def servers(cls, count: int, *, is_apart: bool = False) -> Demand:
        """That of so many machines with systemd on one network."""
        return cls(
            machines=count,
            containers=count,
            booted=count,
            links=count,
            neighbours4=count * (count - 1),
            neighbours6=count * (count - 1),
            is_apart=is_apart,
        )

    @property
    def of_one_user(self) -> Demand:
        """The most that is counted for one user of the host."""
        if not self.is_apart or not self.containers:
            return self
        return replace(
            self,
            machines=self.machines - self.containers + 1,
            containers=1,
            booted=min(self.booted, 1),
        )


def _pairs(networks: Iterable[str]) -> int:
    """Who may know whom, on all of the networks that links are on."""
    return sum(count * (count - 1) for count in Counter(networks).values())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Quota:
    """Something that the kernel limits."""

    #: as in sysctl(8)
    setting: str
    what: str
    #: what it may come to, programs of the machines included; figures of Debian 12
    expected: Callable[[Demand], int]
    #: what there is no going below
    least: Callable[[Demand], int] = lambda demand: 0
    #: what all others of the host may have of it
    others: int = 0
    #: whether it is counted by users
    by_user: bool = False


def _namespaces(kind: str, expected: Callable[[Demand], int]) -> _Quota:
    return _Quota(
        setting=f"user.max_{kind}_namespaces",
        what=f"{kind} namespaces",
        expected=expected,
        least=lambda demand: demand.machines,
        by_user=True,
    )


_QUOTAS = (
    _Quota(
        setting="fs.inotify.max_user_instances",
        what="inotify instances",
        # systemd and its services take up to seven while it boots and six later, and cannot
        # boot with one
        expected=lambda demand: 7 * demand.booted,
        least=lambda demand: 6 * (demand.booted - 1) + 2 if demand.booted else 0,
        others=8,
        by_user=True,
    ),
    _Quota(
        setting="fs.inotify.max_user_watches",
        what="inotify watches",
        expected=lambda demand: 100 * demand.booted,
        least=lambda demand: 10 * demand.booted,
        by_user=True,
    ),
    _Quota(
        setting="kernel.pid_max",
        what="processes and threads",
        expected=lambda demand: 50 * demand.booted + 10 * demand.machines,
        least=lambda demand: 5 * demand.booted + demand.machines,
        others=500,
    ),
    _Quota(
        setting="kernel.keys.maxkeys",
        what="keys of one user, since all machines have the same ids on the host",
        # that of a session: a machine's programs make none
        expected=lambda demand: demand.containers,
    ),
    _Quota(
        setting="fs.file-max",
        what="open files",
        expected=lambda demand: 1000 * demand.booted + 100 * demand.machines,
        least=lambda demand: 100 * demand.booted,
    ),
    _Quota(
        setting="fs.aio-max-nr",
        what="asynchronous I/O requests",
        # one of five with a database that takes 2,661
        expected=lambda demand: 532 * demand.booted,
    ),
    _Quota(
        setting="net.ipv4.neigh.default.gc_thresh3",
        what="neighbours when all talk to all by IPv4",
        expected=lambda demand: demand.neighbours4,
    ),
    _Quota(
        setting="net.ipv6.neigh.default.gc_thresh3",
        what="neighbours when all talk to all by IPv6",
        expected=lambda demand: demand.neighbours6,
    ),
    _Quota(
        setting="user.max_user_namespaces",
        what="user namespaces",
        expected=lambda demand: 3 * demand.containers,
        least=lambda demand: demand.containers,
        by_user=True,
    ),
    # units in sandboxes have some of their own
    _namespaces("mnt", lambda demand: 2 * demand.machines + 15 * demand.booted),
    _namespaces("net", lambda demand: 2 * demand.machines),
    _namespaces("pid", lambda demand: 2 * demand.machines),
    _namespaces("ipc", lambda demand: 2 * demand.machines),
    _namespaces("uts", lambda demand: 2 * demand.machines + 5 * demand.booted),
)


def problems(
    who: str, demand: Demand, proc: Path = _PROC, files: int | None = None
) -> list[Problem]:
    """What of this host's limits does not do for so much; nothing is changed.

    :param files: the most files that this process may open; by default asked of the kernel.
    """
    found = [
        problem for quota in _QUOTAS if (problem := _too_low(who, quota, demand, proc)) is not None
    ]
    return [*found, *_files(who, demand, files), *_memory(who, demand, proc)]


def _count(demand: Demand) -> str:
    return f"{demand.machines} machines ({demand.booted} with systemd)"


def _too_low(who: str, quota: _Quota, demand: Demand, proc: Path) -> Problem | None:
    most = sysctl.read(quota.setting, proc)
    counted = demand.of_one_user if quota.by_user else demand
    expected = quota.expected(counted)
    if most is None or expected + quota.others <= most or not expected:
        return None
    wanted = max(1024, 1 << (2 * expected - 1).bit_length())
    takers = _count(demand)
    takers = f"{takers} take" if counted is demand else f"each user of {takers} takes"
    return Problem(
        who=who,
        what=f"{takers} about {expected} {quota.what}, and this host gives {most}"
        f" ({quota.setting})",
        remedy=f"sysctl -w {quota.setting}={wanted}, or for this boot and all others, as root:"
        f" pytest-carthage doctor --machines {demand.machines} --fix",
        settings={quota.setting: wanted},
        is_guess=quota.least(counted) <= most,
    )


def _files(who: str, demand: Demand, files: int | None) -> list[Problem]:
    """The fabric has a few for each machine and link."""
    if files is None:
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    expected = 12 * demand.machines + 4 * demand.links
    if files == resource.RLIM_INFINITY or expected + 100 <= files:
        return []
    return [
        Problem(
            who=who,
            what=f"the fabric of {_count(demand)} has about {expected} open files, and a process"
            f" may have {files} here",
            remedy=f"ulimit -Hn {2 * expected + 100} where pytest is started",
            is_guess=2 * demand.machines <= files,
        )
    ]


def _memory(who: str, demand: Demand, proc: Path) -> list[Problem]:
    try:
        lines = (proc / "meminfo").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        free_mib = int(fields["MemAvailable"].split()[0]) >> 10
    except (OSError, ValueError, KeyError):
        return []
    expected_mib = 5 * demand.machines + 35 * demand.booted
    if expected_mib <= free_mib:
        return []
    return [
        Problem(
            who=who,
            what=f"{_count(demand)} take about {expected_mib} MiB of memory before any program of"
            f" theirs runs, and {free_mib} MiB are free",
            remedy="have fewer machines at a time, or less beside them",
            is_guess=True,
        )
    ]
