"""The seed of one machine, as a disk: what it is told of itself before anything of it runs."""

from __future__ import annotations

import hashlib
import io
import tarfile
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pytest_carthage.images.exports.boot.command import command_of_user
from pytest_carthage.images.exports.boot.initrd import SEED_MAGIC
from pytest_carthage.images.exports.boot.merged import INITS
from pytest_carthage.images.seeds.applying import apply_script
from pytest_carthage.images.seeds.commands import DHCP_SCRIPT, network_script, settings
from pytest_carthage.images.seeds.host_keys import host_key_files
from pytest_carthage.images.seeds.ifupdown import ifupdown_files
from pytest_carthage.images.seeds.networkd import networkd_files
from pytest_carthage.images.seeds.process import MainProcess, init_script
from pytest_carthage.images.seeds.units import (
    HOME,
    programs,
    runtime_files,
    script_unit,
    unit_files,
)
from pytest_carthage.images.seeds.values import FileInSeed, text
from pytest_carthage.images.seeds.wiring import wiring_of
from pytest_carthage.planning.resolver import resolv_conf

if TYPE_CHECKING:
    from pytest_carthage.images.seeds.wiring import Wiring
    from pytest_carthage.planning.plan import Plan, PlannedMachine
    from pytest_carthage.store.built import Built

__all__ = ["identity_files", "make_seed", "seed_files"]

_SECTOR = 512
_INITS = tuple(f"/{path}" for path in INITS)


def make_seed(
    planned: PlannedMachine,
    plan: Plan,
    built: Built | None = None,
    *,
    agent: str | None,
    files: Mapping[str, FileInSeed] | None = None,
    host_keys: Mapping[str, FileInSeed] | None = None,
) -> bytes:
    """The bytes of a disk with the serial number :data:`.SEED_SERIAL`, made for one machine.

    Its machine-id, and the keys of its sshd, are new each time.

    :param planned: with what its image says beside its files already in it.
    :param built: its image, which says who runs its main process.
    :param agent: source of the program that answers in it; None: none does.
    :param files: more files, by paths without a leading slash; they win over ours.
    :param host_keys: of its sshd, in place of new ones.
    :raises BuildError: the user of the main process is unknown.
    """
    groups = seed_files(planned, plan, built, agent=agent, host_keys=host_keys)
    for path, file in (files or {}).items():
        for group in groups.values():
            group.pop(path, None)
        groups["root"][path] = file
    members = {f"{name}.tar": FileInSeed(data=_tar(group)) for name, group in groups.items()}
    wiring = wiring_of(planned)
    members["cards"] = text("".join(f"{card.mac} {card.interface}\n" for card in wiring.cards))
    members["apply"] = text(apply_script(uuid.uuid4().hex))
    data = _tar(members)
    header = f"{SEED_MAGIC} {len(data)} {hashlib.sha256(data).hexdigest()}\n".encode()
    disk = header.ljust(_SECTOR, b"\0") + data
    return disk + bytes(-len(disk) % (1 << 20))


def seed_files(
    planned: PlannedMachine,
    plan: Plan,
    built: Built | None = None,
    *,
    agent: str | None,
    host_keys: Mapping[str, FileInSeed] | None = None,
) -> dict[str, dict[str, FileInSeed]]:
    """What is in a machine's seed, by where it belongs: path to file.

    ``root`` is for every machine, ``run`` for its ``/run`` at each boot, ``units`` for those with
    systemd, ``ssh`` for those with an sshd; of ``networkd``, ``ifupdown`` and ``script`` a machine
    with systemd gets one.
    """
    wiring = wiring_of(planned)
    main = _main_process(planned, built)
    own: dict[str, FileInSeed] = {**identity_files(planned, plan), **programs(agent)}
    own[f"{HOME}/network"] = text(network_script(wiring), 0o755)
    if wiring.nat:
        own[f"{HOME}/nat.nft"] = text(wiring.nat)
    if any(settings(wiring)):
        lines = [f"{name.replace('/', '.')} = {value}\n" for name, value in settings(wiring)]
        own["etc/sysctl.d/50-carthage.conf"] = text("".join(lines))
    return {
        "root": own,
        "ssh": dict(host_keys or host_key_files(planned.hostname)),
        "units": dict(unit_files(main, has_nat=bool(wiring.nat), has_agent=agent is not None)),
        **network_files(wiring),
        "run": {
            **runtime_files(),
            "carthage/init": text(init_script(main), 0o755),
            "carthage/dhcp": text(DHCP_SCRIPT, 0o755),
        },
    }


def network_files(wiring: Wiring) -> dict[str, dict[str, FileInSeed]]:
    """The network's configuration for each of those who may configure it."""
    return {
        "networkd": networkd_files(wiring),
        "ifupdown": ifupdown_files(wiring),
        "script": dict(script_unit()),
    }


def identity_files(planned: PlannedMachine, plan: Plan) -> dict[str, FileInSeed]:
    """What a machine is called, whom it knows, and its new machine-id."""
    return {
        "etc/hostname": text(f"{planned.hostname}\n"),
        "etc/hosts": text(plan.hosts_file(planned.networks)),
        "etc/resolv.conf": text(resolv_conf(planned)),
        "etc/machine-id": text(f"{uuid.uuid4().hex}\n", 0o444),
    }


def _main_process(planned: PlannedMachine, built: Built | None) -> MainProcess | None:
    if planned.command is None or planned.command[0] in _INITS:
        return None
    config = None if built is None else built.config
    user = "" if config is None else config.user
    trees = () if built is None else built.lower
    command, home = command_of_user(planned.command, user, trees)
    return MainProcess(
        argv=planned.command,
        env=planned.env,
        user=user,
        workdir=(config.workdir if config is not None else "") or "/",
        restart=planned.restart,
        stop_signal=(config.stop_signal if config is not None else "") or "SIGTERM",
        command=command,
        home=home,
    )


def _tar(files: Mapping[str, FileInSeed]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path, file in sorted(files.items()):
            info = tarfile.TarInfo(path)
            info.mode = file.mode
            if file.target:
                info.type, info.linkname = tarfile.SYMTYPE, file.target
            else:
                info.size = len(file.data)
            tar.addfile(info, io.BytesIO(file.data))
    return data.getvalue()
