"""Kill processes of sessions at random moments: ``python -m tests.endurance.kills --kills 1000``.

A session of pytest builds a layout, uses it in some tests, and ends. In the midst of that one of
its processes gets SIGKILL, chosen by its role, at a random moment of that role's life. Then the
session has to end by itself, without an internal error; and :data:`LIMIT_S` seconds later nothing
of it may be left on this host. What is looked at is the session's own alone.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.endurance.processes import ROLES
from tests.endurance.sessions import TARGETS, Session, prepare

__all__ = ["LIMIT_S", "Kill", "Matrix", "main"]

#: after this nothing may be left
LIMIT_S = 10.0
#: the longest that a session may take to end once something of it was killed
_END_S = 60.0
_POLL_S = 0.01
#: sessions that are begun until one has a process of some role at some moment
_TRIES = 8
#: what no session may print
_BROKEN = re.compile(r"INTERNALERROR|Fatal Python error|Task exception was never|was never awaited")
#: a worker of pytest-xdist that is not one yet: what becomes of that is not ours
_BOOTSTRAP = ", in setup_node\n"
#: kinds of sessions: workers of pytest-xdist, and whether images are built in it
_SHAPES = ((0, False), (0, False), (2, False), (0, True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """One kill, and what became of it."""

    target: str
    role: str
    #: what was killed, as in ``fabric (1234)``
    victim: str
    #: of the session, when it happened
    after_s: float
    workers: int
    builds: bool
    #: from the end of the session until nothing was left
    clean_s: float
    #: what is wrong; empty: nothing
    problem: str
    output: str

    def __str__(self) -> str:
        shape = f"{self.workers} workers" if self.workers else "no workers"
        return (
            f"{self.target:6} {self.role:10} {self.victim} after {self.after_s:.3f} s ({shape}"
            f"{', images built' if self.builds else ''}), clean after {self.clean_s:.2f} s"
            f"{': ' + self.problem if self.problem else ''}"
        )


class Matrix:
    """Targets, roles and moments.

    :param folder: for all files; it is left where something went wrong.
    """

    def __init__(self, folder: Path, *, seed: int, targets: tuple[str, ...] = TARGETS) -> None:
        self._folder = folder
        self._random = random.Random(seed)
        self._suites = {target: prepare(folder, target) for target in targets}
        #: how long a role lives in a session of some kind, as far as was seen
        self._lives: dict[tuple[object, ...], float] = {}
        self._numbers = itertools.count()
        #: what the last session printed in which nothing was killed
        self._last = ""

    def kill(self, target: str, role: str) -> Kill | None:
        """Kill one process of that role; None: several sessions had none when its moment came."""
        for _ in range(_TRIES):
            shapes = [
                (workers, builds)
                for workers, builds in _SHAPES
                if (role != "worker" or workers)
                and (role != "workshop" or builds)
                and not (target == "netns" and builds)
            ]
            workers, builds = self._random.choice(shapes)
            if (kill := self._try(target, role, workers, builds=builds)) is not None:
                return kill
        print(f"{_TRIES} sessions on {target!r} had no {role}; the last one printed:\n{self._last}")
        return None

    def _try(self, target: str, role: str, workers: int, *, builds: bool) -> Kill | None:
        suite = self._suites[target]
        folder = self._folder / f"{next(self._numbers)}"
        images = None if builds else suite / "images"
        is_first = images is not None and not images.exists()
        key = (target, role, workers, builds)
        session = Session.start(suite, folder, workers=workers, images=images)
        try:
            if is_first and target != "netns":
                session.await_end(_END_S)  # its images are for the others
                return None
            after_s = self._random.random() * self._lives.get(key, 1.0)
            victim = self._strike(session, role, after_s, key)
            if victim is None:
                session.await_end(_END_S)
                self._last = session.text
                return None
            name, at = victim
            problem = self._end(session)
            if _BOOTSTRAP in session.text:
                return None
            ended = time.monotonic()
            left = session.inventory.left_after(LIMIT_S)
            clean_s = time.monotonic() - ended
            if left:
                problem = f"{problem}; left after {LIMIT_S:g} s: {dict(left)}".lstrip("; ")
            return Kill(
                target=target,
                role=role,
                victim=name,
                after_s=at,
                workers=workers,
                builds=builds,
                clean_s=clean_s,
                problem=problem,
                output=session.text,
            )
        finally:
            session.process.kill()
            session.process.wait()
            session.end_all()
            session.inventory.left_after(LIMIT_S)
            _remove(folder)

    def _strike(
        self, session: Session, role: str, after_s: float, key: tuple[object, ...]
    ) -> tuple[str, float] | None:
        """Kill a process some time after there is one of its role; returns who and when."""
        first: float | None = None
        while session.process.poll() is None:
            candidates = session.family.of_role(role)
            now = time.monotonic()
            if candidates and first is None:
                first = now
            if first is not None and candidates and now - first >= after_s:
                session.family.adopt()
                process = self._random.choice(candidates)
                try:
                    os.kill(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                kind = session.family.role(process)
                return f"{kind} {process.name} ({process.pid})", now - session.began
            if first is not None and candidates:
                self._lives[key] = max(self._lives.get(key, 0.0), now - first)
            time.sleep(_POLL_S)
        return None

    def _end(self, session: Session) -> str:
        """Wait for the session's end; returns what is wrong with that."""
        status = session.await_end(_END_S)
        text = session.text
        if status is None:
            return f"pytest has not ended in {_END_S:g} s"
        if found := _BROKEN.search(text):
            return f"it printed {found.group()!r}"
        if status == -signal.SIGKILL:  # it was pytest that was killed
            return ""
        if status not in (0, 1, 2):
            return f"pytest ended with {status}"
        if not re.search(r"=+ .*(passed|failed|error|skipped|no tests ran).* =+", text):
            return "no summary"
        return ""


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _chosen(text: str, choices: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(text.split(",")) if text else choices
    for name in names:
        if name not in choices:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(choices)}")
    return names


def _pairs(targets: tuple[str, ...], roles: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for role, target in itertools.cycle(itertools.product(roles, targets)):
        if role in ("workshop", "podman") and (target == "netns") | (
            role == "podman" and target != "podman"
        ):
            continue
        if role == "sweeper":
            continue
        yield target, role


def main(argv: list[str] | None = None) -> int:
    """Kill as often as was asked for, and print what became of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.endurance.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--role", default="", help=f"of: {', '.join(ROLES)}")
    parser.add_argument("--target", default="", help=f"of: {', '.join(TARGETS)}")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--log", type=Path, help="file to which each kill is added")
    arguments = parser.parse_args(argv)
    targets = _chosen(arguments.target, TARGETS)
    roles = _chosen(arguments.role, ROLES)
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(10**6)
    folder = Path(tempfile.mkdtemp(prefix="carthage-kills-"))
    print(f"seed {seed}, files in {folder}", flush=True)
    matrix = Matrix(folder, seed=seed, targets=targets)
    count: collections.Counter[str] = collections.Counter()
    bad: list[Kill] = []
    longest = 0.0
    try:
        for target, role in _pairs(targets, roles):
            if count.total() >= arguments.kills:
                break
            if (kill := matrix.kill(target, role)) is None:
                continue
            count[role] += 1
            longest = max(longest, kill.clean_s)
            print(kill, flush=True)
            if kill.problem:
                bad.append(kill)
                print(f"--- what it printed:\n{kill.output}\n---", flush=True)
            if arguments.log is not None:
                with arguments.log.open("a") as log:
                    log.write(f"{kill}\n")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(_summary(count, bad, longest))
    return 1 if bad else 0


def _summary(count: Mapping[str, int], bad: list[Kill], longest: float) -> str:
    kinds = ", ".join(f"{role} {number}" for role, number in sorted(count.items()))
    return (
        f"{sum(count.values())} kills ({kinds}): {len(bad)} went wrong; "
        f"the longest until nothing was left: {longest:.2f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
