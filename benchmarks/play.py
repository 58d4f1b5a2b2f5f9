"""A play of one task on one machine, from the call to the result.

Against: the same ``ansible-playbook`` with its local connection, which goes nowhere.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import Figure, in_turns, main, seconds
from benchmarks.layouts import crowd, live
from pytest_carthage.work.ansible.installation import find_program

PLAY = "- hosts: m0\n  gather_facts: false\n  tasks: [{command: 'true'}]\n"


def take(rounds: int) -> Sequence[Figure]:
    """Take the figure."""
    with tempfile.TemporaryDirectory() as folder, live(crowd(1)) as environment:
        playbook = Path(folder) / "one.yml"
        playbook.write_text(PLAY)
        command = [find_program("ansible-playbook"), "--inventory", "m0,"]
        # the same that a machine has; else it would look for one
        command += ["--extra-vars", "ansible_python_interpreter=/usr/bin/python3"]
        command += ["--connection", "local", str(playbook)]

        def ours() -> float:
            return seconds(lambda: environment.ansible(playbook))

        def local() -> float:
            return seconds(
                lambda: subprocess.run(
                    command,
                    check=True,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env={**os.environ, "LC_ALL": "C.UTF-8"},
                )
            )

        plays, processes = in_turns(rounds, ours, local)
    figure = Figure(
        what="a play of one task",
        unit="s",
        ours=plays,
        other=processes,
        versus="`ansible-playbook --connection local`",
        at_most_times=1.1,
    )
    return [figure]


if __name__ == "__main__":
    main(take)
