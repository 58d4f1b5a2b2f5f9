"""What other processes need to run Ansible in a live layout: left in its folder, and taken up.

Whoever has built a layout may be gone when somebody runs Ansible in it from a command line.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_carthage.errors import StateError
from pytest_carthage.fabric.wire import client
from pytest_carthage.live.openings.control import NAME
from pytest_carthage.live.openings.station import Station, namespace_behind
from pytest_carthage.placing.specs import machine_spec
from pytest_carthage.planning import plan_control
from pytest_carthage.planning.plan import PlannedMachine
from pytest_carthage.work.ansible.inventory import inventory
from pytest_carthage.work.ansible.record import write_record
from pytest_carthage.work.ansible.station import Station as PlayStation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_carthage.fabric.wire.client import Client
    from pytest_carthage.planning.plan import Plan

__all__ = ["Handover", "hand_over", "take_up"]

_FILE = "ansible/layout.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """What was left of a layout."""

    #: the environment's
    folder: Path
    #: as :func:`~pytest_carthage.work.ansible.inventory.inventory` makes it
    inventory: Mapping[str, Any]
    #: of the station that plays work in, as the fabric makes it
    station: Mapping[str, Any]
    #: ``/etc/hosts`` there, and of machines to come
    hosts: str
    common_hosts: str

    def open_station(self, *, is_owned: bool) -> PlayStation:
        """Where plays work; the caller closes its descriptors.

        :param is_owned: who has built the layout is there, and may give the addresses that are
            free away at any time. Where nobody has made the station then, plays are on no network.
        :raises OSError: the fabric is gone.
        :raises pytest_carthage.fabric.wire.client.Refused: it refuses the station.
        """
        lock = os.open(self.folder / "ansible/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with client.connect(str(self.folder / "fabric.sock")) as fabric:
                if NAME not in fabric.request("status")[0]["machines"]:
                    if is_owned:
                        return PlayStation(sockets=(str(self.folder),))
                    self._make(fabric)
                return self._enterable(fabric)
        finally:
            os.close(lock)

    def _make(self, fabric: Client) -> None:
        reply, _ = fabric.request("machines", machines=[self.station], hosts=self.common_hosts)
        if NAME not in reply["made"]:
            raise client.Refused(str(reply["failed"].get(NAME, "not made")))

    def _enterable(self, fabric: Client) -> PlayStation:
        folder = self.folder / "stations/ansible"
        station = Station("", folder)
        # who has made it may have told it of more
        station.furnish(
            _text(folder / "hosts", self.hosts),
            _text(folder / "resolv.conf", str(self.station["resolv"])),
        )
        _, (fd,) = fabric.request("socket", machine=NAME)
        with socket.socket(fileno=fd) as sock:
            network = namespace_behind(sock)
        _, (processes,) = fabric.request("station", machine=NAME, addresses=[])
        return PlayStation(
            network=network,
            processes=processes,
            files=dict(station.mounts),
            sockets=(str(self.folder),),
        )


def _text(path: Path, otherwise: str) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return otherwise


def hand_over(plan: Plan, folder: Path) -> None:
    """Leave it in an environment's folder, for the owner's eyes only.

    :raises AnsibleError: Ansible cannot be given a machine's variables.
    """
    planned = PlannedMachine(
        name=NAME, hostname="station", target="", image=None, links=plan_control(plan).links
    )
    (folder / "ansible").mkdir(mode=0o700, exist_ok=True)
    record = {
        "inventory": inventory(plan, socket=folder / "fabric.sock", interpreters=None),
        "station": machine_spec(planned, "namespace", folder / "logs", ""),
        "hosts": plan.hosts_file(planned.networks),
        "common_hosts": plan.hosts_file(()),
    }
    write_record(folder / _FILE, record, "variables of the layout's machines")


def take_up(name: str, folder: Path) -> Handover:
    """What was left in the folder of an environment.

    :raises StateError: nothing was.
    """
    try:
        return Handover(folder=folder, **json.loads((folder / _FILE).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise StateError(
            f"environment {name!r}: what Ansible is told of it is not in {folder / _FILE} "
            f"({error}); it is of another version of pytest-carthage, or Ansible cannot be given "
            "the variables of its machines: they are text, numbers, lists and the like"
        ) from error
