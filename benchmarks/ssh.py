"""``ssh MACHINE true`` by the configuration of ``pytest-carthage ssh-config``.

Against: an sshd in the same machine, over a forwarded port.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.harness import Figure, in_turns, main
from benchmarks.layouts import BOOTS, crowd, live
from pytest_carthage.ssh.client_config import Host, client_config, tell_how_to_start
from pytest_carthage.ssh.keys import make_keys

#: which has an sshd
IMAGE = BOOTS.with_packages("openssh-server")
#: connections in a round
CALLS = 5
SSHD = """\
mkdir -p /run/sshd; umask 077; echo "$1" > /tmp/authorized; echo "$2" > /tmp/host_key
/usr/sbin/sshd -D -o HostKey=/tmp/host_key -o AuthorizedKeysFile=/tmp/authorized \
    -o StrictModes=no -o PermitRootLogin=yes -o UsePAM=no >/dev/null 2>&1 &
until bash -c '</dev/tcp/127.0.0.1/22' 2>/dev/null; do sleep 0.05; done
"""
MIB = 64


def take(rounds: int) -> Sequence[Figure]:
    """Take the figures: a connection of its own, one that is shared, and what goes through."""
    with live(crowd(1, image=IMAGE)) as environment, tempfile.TemporaryDirectory() as folder:
        machine = environment["m0"]
        keys = make_keys(environment.folder)
        supervisor = environment.folder.parents[1] / "supervisor.sock"
        tell_how_to_start(keys, environment=environment.name, supervisor=supervisor)
        keys.pin(["m0"])
        config = Path(folder) / "config"
        config.write_text(client_config([Host(names=["m0"], machine="m0", keys=keys)]))
        public = keys.identity.with_suffix(".pub").read_text()
        words = [public, keys.host_key.read_text()]
        machine.run(["sh", "-ec", SSHD, "sh", *words], timeout_s=30)
        with machine.forward(22) as port:
            ours = ["ssh", "-F", str(config)]
            theirs = ["ssh", "-F", "none", "-i", str(keys.identity), "-p", str(port)]
            theirs += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
            theirs += ["-o", "LogLevel=ERROR", "-o", "Ciphers=^aes128-gcm@openssh.com"]
            sides = ([*ours, "m0"], [*theirs, "root@127.0.0.1"])

            def connected(side: int) -> float:
                return _each([*sides[side], "true"]) * 1e3

            def shared(side: int) -> float:
                path = f"{folder}/{side}"
                options = ["-o", "ControlMaster=auto", "-o", f"ControlPath={path}"]
                options += ["-o", "ControlPersist=60"]
                ssh, *others = sides[side]
                _run([ssh, *options, *others, "true"])
                try:
                    return _each([ssh, *options, *others, "true"]) * 1e3
                finally:
                    _run([ssh, "-o", f"ControlPath={path}", "-O", "exit", *others])

            def sent(side: int) -> float:
                begin = time.perf_counter()
                _run([*sides[side], "cat >/dev/null"], bytes(MIB << 20))
                return time.perf_counter() - begin

            return [
                _figure("ssh MACHINE true", "ms", rounds, connected),
                _figure("the same, over a connection that is shared", "ms", rounds, shared),
                _figure(f"{MIB} MiB into a machine by ssh", "s", rounds, sent),
            ]


def _figure(what: str, unit: str, rounds: int, take_side: Callable[[int], float]) -> Figure:
    ours, other = in_turns(rounds, lambda: take_side(0), lambda: take_side(1))
    return Figure(
        what=what, unit=unit, ours=ours, other=other, versus="its own sshd", at_most_times=1.5
    )


def _each(argv: Sequence[str]) -> float:
    """Seconds of one run of a command."""
    begin = time.perf_counter()
    for _ in range(CALLS):
        _run(argv)
    return (time.perf_counter() - begin) / CALLS


def _run(argv: Sequence[str], data: bytes = b"") -> None:
    subprocess.run(
        argv, input=data, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True
    )


if __name__ == "__main__":
    main(take)
