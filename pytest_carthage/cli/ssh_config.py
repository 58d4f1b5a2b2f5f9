"""``pytest-carthage ssh-config``: machines as hosts of ssh, for every tool that speaks it."""

from __future__ import annotations

import argparse
import collections
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.cli import target
from pytest_carthage.cli.output import write_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_carthage.state.listing import Listed


def add(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "ssh-config",
        help="write an ssh_config for machines",
        description="Write an ssh_config by which ssh, scp, sftp, rsync and all that speak ssh "
        "reach machines, without sshd or an address: for `ssh -F FILE`, or an Include. Hosts are "
        "called ENVIRONMENT.MACHINE, and MACHINE where only one of the environments has such a "
        "one; users are those of the machine, root by default.",
    )
    target.add_environment(parser, "all that are alive")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write it there")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write it."""
    environments = (
        target.environments()
        if arguments.environment is None
        else [target.environment(arguments.environment)]
    )
    write_text(configuration(environments), arguments.output)
    return 0


def configuration(environments: Sequence[Listed]) -> str:
    """The configuration of these environments; keys are made where there are none.

    :raises pytest_carthage.errors.HostError: what answers ssh is not installed.
    """
    from pytest_carthage.ssh.client_config import Host, client_config, tell_how_to_start
    from pytest_carthage.ssh.keys import make_keys, require_asyncssh

    require_asyncssh()
    having = collections.Counter(
        machine for environment in environments for machine in environment.machines
    )
    hosts = []
    for environment in environments:
        keys = make_keys(environment.folder)
        supervisor = environment.run_folder / "supervisor.sock"
        tell_how_to_start(keys, environment=environment.name, supervisor=supervisor)
        for machine in environment.machines:
            names = [f"{environment.name}.{machine}"]
            if having[machine] == 1:
                names.insert(0, machine)
            hosts.append(Host(names=names, machine=machine, keys=keys))
        keys.pin([name for host in hosts if host.keys is keys for name in host.names])
    return client_config(hosts)
