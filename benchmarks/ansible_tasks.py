"""Sixty tasks of Ansible on three machines, warm, and what coverage of them costs.

Three plays of twenty tasks, each with facts, as production's trees have them; the run before has
changed all that there is to change. Against: modules that come as sources alone.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness import Figure, in_turns, main, seconds
from benchmarks.layouts import crowd, live

_TASKS = """\
    - {{name: Folder {n}, file: {{path: /srv/{n}, state: directory, mode: "0750"}}}}
    - {{name: File {n}, copy: {{dest: /srv/{n}/a, content: "{{{{ ansible_facts.hostname }}}}\\n"}}}}
    - {{name: Line {n}, lineinfile: {{path: /srv/{n}/b, line: "x = {n}", create: true}}}}
    - {{name: Look {n}, stat: {{path: /srv/{n}/a}}, register: seen}}
    - {{name: Command {n}, command: "true", changed_when: false, when: seen.stat.exists}}
"""
_PLAY = "- hosts: all\n  tasks:\n"


def playbook(folder: Path) -> Path:
    """A playbook of three plays with twenty tasks each."""
    path = folder / "site.yml"
    plays = [[_TASKS.format(n=4 * play + n) for n in range(4)] for play in range(3)]
    path.write_text("".join(_PLAY + "".join(tasks) for tasks in plays))
    return path


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """These environment variables, while the block runs."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def take(rounds: int) -> Sequence[Figure]:
    """Take the figures."""
    with (
        tempfile.TemporaryDirectory(prefix="carthage-benchmark-") as name,
        live(crowd(3)) as layout,
    ):
        folder = Path(name)
        site = playbook(folder)

        def run() -> float:
            return seconds(lambda: layout.ansible(site))

        def kept() -> float:
            return seconds(lambda: layout.ansible(site, keep_facts=True))

        def before() -> float:
            sources = {"ansible_carthage_compiled": ""}
            return seconds(lambda: layout.ansible(site, extra_vars=sources))

        def covered() -> float:
            with (
                tempfile.TemporaryDirectory(dir=folder) as records,
                environment(CARTHAGE_ANSIBLE_COVERAGE=records),
            ):
                return run()

        ours, facts, other, with_coverage = in_turns(rounds, run, kept, before, covered)
    return [
        Figure(
            what="60 tasks of Ansible on 3 machines, warm",
            unit="s",
            ours=ours,
            other=other,
            versus="modules as sources",
            at_most_times=0.7,
        ),
        Figure(
            what="the same with `keep_facts=True`",
            unit="s",
            ours=facts,
            other=other,
            versus="modules as sources, facts in each play",
            at_most_times=0.7,
        ),
        Figure(
            what="the same with coverage",
            unit="s",
            ours=with_coverage,
            other=ours,
            versus="without",
            at_most_times=1.05,
        ),
    ]


if __name__ == "__main__":
    main(take)
