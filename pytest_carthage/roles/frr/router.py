"""Dynamic routing, by FRR from Debian, with configuration files of the author's own."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.errors import TaskError
from pytest_carthage.model.role import Role
from pytest_carthage.model.task import filesystem_task, machine_task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_carthage.roles.served import Files, Served

__all__ = ["FrrRouter", "configuration_files", "needed_daemons"]

#: where FRR's files are in a machine
FOLDER = "/etc/frr"
#: by which systemd starts it with the machine
_WANTED = "/etc/systemd/system/multi-user.target.wants/frr.service"
# From now on it starts with the machine, as Debian has it.
_START = f"""\
[ -d /run/systemd/system ] || exec service frr restart
ln -sf /lib/systemd/system/frr.service {_WANTED} && systemctl restart frr
"""
#: what makes a daemon necessary; zebra and staticd always run, see frr's own /etc/frr/daemons
_DAEMONS: Mapping[str, re.Pattern[str]] = {
    daemon: re.compile(pattern, re.MULTILINE)
    for daemon, pattern in {
        "bgpd": r"^router bgp\b",
        "ospfd": r"^router ospf\b",
        "ospf6d": r"^router ospf6\b",
        "isisd": r"^router isis\b",
        "ripd": r"^router rip\b",
        "ripngd": r"^router ripng\b",
        "eigrpd": r"^router eigrp\b",
        "babeld": r"^router babel\b",
        "fabricd": r"^router openfabric\b",
        "bfdd": r"^bfd\b|^[^!#\n]*\s(bfd|bfd profile \S+)\s*$|^ +neighbor \S+ bfd\b",
        "pimd": r"^ *ip (pim|igmp)\b",
        "pim6d": r"^ *ipv6 (pim|mld)\b",
        "ldpd": r"^mpls ldp\b",
        "nhrpd": r"^ *ip nhrp\b",
        "pbrd": r"^pbr-map\b",
        "vrrpd": r"^ *vrrp \d+",
        "pathd": r"^ +traffic-eng\b",
    }.items()
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FrrPackage(Role):
    """Debian's FRR in an image, which every router's configuration has in common."""

    packages = ("frr", "frr-pythontools")

    @filesystem_task("have FRR wait for its configuration")
    async def wait(self, fs: Files) -> None:
        """Have it not start with the machine: it would start twice, first without neighbours."""
        await fs.run(["rm", "-f", _WANTED])


@dataclass(frozen=True, slots=True, kw_only=True)
class FrrRouter(Role):
    """Forwards packets, and runs Debian's FRR as the author's own files configure it.

    They are taken as they are. ``config`` is a file ``frr.conf``, or a folder that has, for a
    machine ``r1``, one of ``r1/etc/frr/``, ``r1/`` (with ``frr.conf``, and maybe ``daemons``,
    ``vtysh.conf`` or a file for each daemon), ``r1.conf``, or ``frr.conf``. A relative path is
    from the author's file. Daemons run as ``daemons`` says; where there is no such file, those
    that the configuration speaks of.

    :raises ValueError: there is no such file or folder, or neither ``config`` nor ``text``.
    """

    includes = (FrrPackage(),)

    #: whether it forwards packets between its links
    forward: bool = True

    #: file or folder of configuration
    config: str | Path | None = None
    #: text of ``frr.conf`` in its stead
    text: str = ""
    #: daemons to run beside those that the configuration needs, as ``("bfdd",)``
    daemons: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.config is None) == (not self.text):
            raise ValueError(
                "FrrRouter: it needs a configuration, by one of config= and text=; try: "
                'FrrRouter(config="frr"), a folder beside the file of the layout'
            )
        for daemon in self.daemons:
            if daemon not in _DAEMONS:
                raise ValueError(
                    f"FrrRouter: daemons has {daemon!r}, which FRR has not; try: some of "
                    f"{', '.join(_DAEMONS)}"
                )
        if self.config is not None:
            path = Path(self.declared_at.file).parent / self.config
            if not path.exists():
                raise ValueError(
                    f"FrrRouter: config={str(self.config)!r}: there is no {path}; try: a file "
                    "frr.conf, or a folder with one for each router"
                )
            object.__setattr__(self, "config", path)

    @machine_task("start FRR with its configuration")
    async def start(self, machine: Served) -> None:
        """Put the files where FRR looks for them, and start it; returns when all daemons run.

        :raises TaskError: there is no file for this machine, or FRR does not understand it.
        """
        files = self._files(machine)
        for name, source in files.items():
            await machine.put(source, f"{FOLDER}/{name}", mode=0o640, user="frr")
        if self.text:
            await machine.write_text(f"{FOLDER}/frr.conf", self.text, mode=0o640, user="frr")
        if "daemons" not in files:
            await self._enable(machine, files)
        if self.text or "frr.conf" in files:
            await _check(machine)
        await machine.run(_START, timeout_s=120)

    def _files(self, machine: Served) -> Mapping[str, Path]:
        if self.config is None:
            return {}
        planned = machine.planned
        names = list(dict.fromkeys([planned.name, planned.hostname]))
        files, looked_for = configuration_files(Path(self.config), names)
        if not files:
            raise TaskError(
                f"machine {planned.name!r}: FrrRouter: no configuration for it in {self.config}: "
                f"there is none of {', '.join(looked_for)}; try: one of them"
            )
        return files

    async def _enable(self, machine: Served, files: Mapping[str, Path]) -> None:
        """Have the package's own file tell to start the daemons that are needed."""
        texts = [self.text]
        texts += [path.read_text(errors="replace") for path in files.values()]
        wanted = {*self.daemons, *needed_daemons("\n".join(texts), files)}
        written = await machine.read_text(f"{FOLDER}/daemons")
        for daemon in _DAEMONS:
            state = "yes" if daemon in wanted else "no"
            written = re.sub(rf"^{daemon}=.*$", f"{daemon}={state}", written, flags=re.MULTILINE)
        await machine.write_text(f"{FOLDER}/daemons", written, mode=0o640, user="frr")


def needed_daemons(text: str, files: Collection[str] = ()) -> list[str]:
    """The daemons that a configuration speaks of, beside zebra and staticd.

    :param files: names of files of configuration: those of a daemon need it.
    """
    return [
        daemon
        for daemon, pattern in _DAEMONS.items()
        if f"{daemon}.conf" in files or pattern.search(text)
    ]


def configuration_files(
    config: Path, names: Sequence[str]
) -> tuple[Mapping[str, Path], Sequence[str]]:
    """The files for a machine: name in ``/etc/frr`` to file; and what was looked for.

    :param names: what the machine is called.
    """
    if config.is_file():
        return {"frr.conf": config}, ()
    looked_for = []
    for where, is_folder in _places(names):
        path = config / where
        looked_for.append(f"{where}/" if is_folder else where)
        if is_folder and path.is_dir():
            return dict(_within(path)), looked_for
        if not is_folder and path.is_file():
            common = {name: config / name for name in ("daemons", "vtysh.conf")}
            near = {name: path for name, path in common.items() if path.is_file()}
            return {**near, "frr.conf": path}, looked_for
    return {}, looked_for


def _places(names: Sequence[str]) -> Iterator[tuple[str, bool]]:
    for name in names:
        yield f"{name}/etc/frr", True
        yield name, True
        yield f"{name}.conf", False
    yield "frr.conf", False


def _within(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.iterdir()):
        if path.is_file() and (path.suffix == ".conf" or path.name == "daemons"):
            yield path.name, path


async def _check(machine: Served) -> None:
    """Have FRR's own shell read the configuration.

    :raises TaskError: with the lines that it does not understand: FRR would go on without them.
    """
    done = await machine.run(["vtysh", "--dryrun"], check=False)
    if done.status:
        said = "; ".join(line.strip() for line in (done.stdout + done.stderr).splitlines() if line)
        raise TaskError(
            f"machine {machine.name!r}: FRR does not understand its frr.conf: {said}; "
            f"try: what the version in the image knows (dpkg -l frr)"
        )
