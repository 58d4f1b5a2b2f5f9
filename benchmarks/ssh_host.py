"""Commands and assertions on a host that is reached by ssh.

Against: plain ssh with ControlMaster, and testinfra's own ssh and paramiko back ends. All of them
have the same sshd, over the same port of this host's loopback.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import Figure, in_turns, main, seconds
from benchmarks.layouts import BOOTS, crowd, live
from benchmarks.ssh import SSHD
from pytest_carthage import Layout, Machine, Ssh
from pytest_carthage.ssh.keys import make_keys

IMAGE = BOOTS.with_packages("openssh-server")
#: calls in a round
CALLS = 20
FILE = "/etc/passwd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Where it is reached."""

    port: int
    identity: Path
    host_key: str
    config: Path


@contextmanager
def host() -> Iterator[Host]:
    """An sshd that anybody could have."""
    with live(crowd(1, image=IMAGE)) as environment, tempfile.TemporaryDirectory() as folder:
        machine = environment["m0"]
        keys = make_keys(environment.folder)
        public = keys.identity.with_suffix(".pub").read_text()
        words = [public, keys.host_key.read_text()]
        machine.run(["sh", "-ec", SSHD, "sh", *words], timeout_s=30)
        pinned = " ".join(keys.host_key.with_suffix(".pub").read_text().split()[:2])
        with machine.forward(22) as port:
            known = Path(folder) / "known_hosts"
            known.write_text(f"[127.0.0.1]:{port} {pinned}\n")
            config = Path(folder) / "config"
            config.write_text(
                f"Host host\n  HostName 127.0.0.1\n  Port {port}\n  User root\n"
                f"  IdentityFile {keys.identity}\n  UserKnownHostsFile {known}\n"
            )
            yield Host(port=port, identity=keys.identity, host_key=pinned, config=config)


def take(rounds: int) -> Sequence[Figure]:
    """Take the figures."""
    import testinfra

    with host() as there, tempfile.TemporaryDirectory() as folder:
        on = Ssh(
            "127.0.0.1",
            user="root",
            port=there.port,
            identity=there.identity,
            host_key=there.host_key,
            config=os.devnull,
        )
        with live(Layout.of("Room", {"m": Machine(on=on)})) as room:
            machine = room["m"]
            ssh = ["ssh", "-F", str(there.config), "-o", f"ControlPath={folder}/control"]
            shared = [*ssh, "-o", "ControlMaster=auto", "-o", "ControlPersist=60", "host"]

            def plain() -> None:
                subprocess.run([*shared, "true"], check=True, stdin=subprocess.DEVNULL)

            plain()
            own = machine.host
            backends = {
                name: testinfra.get_host(
                    f"{name}://host",
                    ssh_config=str(there.config),
                    ssh_identity_file=str(there.identity),
                )
                for name in ("ssh", "paramiko")
            }
            for each in (own, *backends.values()):
                assert each.file(FILE).exists
            try:
                command = in_turns(
                    rounds, lambda: _each(lambda: machine.run(["true"])), lambda: _each(plain)
                )
                figures = [_figure("a command on an open connection", command, "ControlMaster", 8)]
                for name, backend in backends.items():
                    sides = [partial(_each, partial(_assert, each)) for each in (own, backend)]
                    taken = in_turns(rounds, *sides)
                    versus = f"testinfra's {name} back end"
                    figures.append(_figure("host.file(...).exists (testinfra)", taken, versus, 10))
            finally:
                subprocess.run([*ssh, "-O", "exit", "host"], check=False, capture_output=True)
    return figures


def _figure(what: str, taken: Sequence[tuple[float, ...]], versus: str, at_most: float) -> Figure:
    return Figure(
        what=f"{what}, ssh host",
        unit="ms",
        ours=taken[0],
        other=taken[1],
        versus=versus,
        at_most=at_most,
    )


def _assert(host: Any) -> None:
    assert host.file(FILE).exists


def _each(call: Callable[[], object]) -> float:
    """Milliseconds of one call."""
    return seconds(lambda: [call() for _ in range(CALLS)]) / CALLS * 1e3


if __name__ == "__main__":
    main(take)
