"""What a machine runs for us: the agent, its main process, address translation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pytest_carthage.images.seeds.values import FileInSeed, text
from pytest_carthage.placing import systemd

if TYPE_CHECKING:
    from pytest_carthage.images.seeds.process import MainProcess

__all__ = [
    "AGENT_ENDED",
    "AGENT_PORT",
    "HOME",
    "NETWORK_UNIT",
    "programs",
    "runtime_files",
    "script_unit",
    "unit_files",
]

#: name of the port of virtio-serial on which the agent answers
AGENT_PORT = "org.pytest-carthage.agent"
#: what its console tells when the agent has ended in error, before the reason
AGENT_ENDED = "carthage: the agent has ended"
#: unit of a machine whose network, or some of it, a script configures
NETWORK_UNIT = "pytest-carthage-network.service"
#: where our programs are in the machine
HOME = "usr/lib/pytest-carthage"

_AGENT = f"""#!/bin/sh
# there may be nobody yet who makes /dev/virtio-ports
for port in /sys/class/virtio-ports/*; do
    read -r name < "$port/name" || continue
    [ "$name" = {AGENT_PORT} ] || continue
    for python in python3 /usr/bin/python3 /usr/local/bin/python3 /usr/libexec/platform-python; do
        command -v "$python" > /dev/null || continue
        "$python" -I -S /{HOME}/agent.py "/dev/${{port##*/}}" 2> /run/carthage-agent && exit
        while read -r line; do last=$line; done < /run/carthage-agent
        echo "{AGENT_ENDED}: $last" > /dev/console
        sleep 2
        exit 1
    done
    echo "{AGENT_ENDED}: there is no python3" > /dev/console
    sleep 3600
done
sleep 0.2
exit 1
"""
_POWER = """#!/bin/sh
# @WORD@ in good order, also where nobody but our own init can do that
case $(/run/carthage/busybox readlink /proc/1/exe 2> /dev/null) in
    /run/carthage/*) kill -@SIGNAL@ 1; exit ;; # the shell's own: an image may have no other
esac
if [ -d /run/systemd/system ]; then exec systemctl --no-block @WORD@; fi
exec @WORD@
"""
_AGENT_UNIT = f"""[Unit]
Description=Agent of pytest-carthage
DefaultDependencies=no
After=systemd-remount-fs.service
Conflicts=shutdown.target
Before=shutdown.target

[Service]
ExecStart=/bin/sh /{HOME}/agent
Restart=always
RestartSec=100ms
# what a command has left behind, as a daemon, is none of the agent's
KillMode=process
StandardInput=null
StandardOutput=null
OOMScoreAdjust=-900
TasksMax=infinity
LimitNOFILE=1024:524288
"""
_NAT_UNIT = f"""[Unit]
Description=Address translation of pytest-carthage
DefaultDependencies=no
Wants=network-pre.target
Before=network-pre.target shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=nft -f /{HOME}/nat.nft

[Install]
WantedBy=multi-user.target
"""
_NETWORK = f"""[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh /{HOME}/network
"""
_ALL_NETWORK = f"""[Unit]
Description=Network of pytest-carthage
DefaultDependencies=no
Wants=network.target
Before=network.target shutdown.target
Conflicts=shutdown.target

{_NETWORK}"""
_MORE_NETWORK = f"""[Unit]
Description=Network of pytest-carthage, above that of the machine
Wants=network-online.target
After=network-online.target

{_NETWORK}"""
_UNITS = "etc/systemd/system"

#: units that take an emulated processor's time and do nothing that a server in a test is there
#: for: file systems for debugging, what waits for a person, what looks after a disk that is new
_MASKED = (
    "dev-hugepages.mount",
    "e2scrub_reap.service",
    "getty-static.service",
    "modprobe@configfs.service",
    "modprobe@drm.service",
    "modprobe@efi_pstore.service",
    "modprobe@fuse.service",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    "systemd-binfmt.service",
    "systemd-firstboot.service",
    "systemd-hwdb-update.service",
    "systemd-pcrphase-sysinit.service",
    "systemd-pcrphase.service",
    "systemd-pstore.service",
    "systemd-update-done.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service",
)

#: generators of units for what no virtual machine of ours starts from: partitions that are found by
#: their kind, a memory that was saved on disk, file systems that are checked as they are read
_NO_GENERATORS = (
    "systemd-bless-boot-generator",
    "systemd-gpt-auto-generator",
    "systemd-hibernate-resume-generator",
    "systemd-integritysetup-generator",
    "systemd-veritysetup-generator",
)


def programs(agent: str | None) -> Mapping[str, FileInSeed]:
    """What the agent and those who end the machine are run by.

    :param agent: its source; None: there is none.
    """
    power = {
        word: text(_POWER.replace("@WORD@", word).replace("@SIGNAL@", signal), 0o755)
        for word, signal in (("poweroff", "USR2"), ("reboot", "TERM"))
    }
    files = power
    if agent is not None:
        files |= {"agent": text(_AGENT, 0o755), "agent.py": text(agent)}
    return {f"{HOME}/{name}": file for name, file in files.items()}


def unit_files(
    main: MainProcess | None, *, has_nat: bool, has_agent: bool = True
) -> Mapping[str, FileInSeed]:
    """Units for a machine with systemd."""
    units = {"agent": (_AGENT_UNIT, "sysinit.target")} if has_agent else {}
    if has_nat:
        units["nat"] = (_NAT_UNIT, "multi-user.target")
    if main is not None:
        units["main"] = (main.unit(), "multi-user.target")
    files: dict[str, FileInSeed] = {}
    for name, (unit, target) in units.items():
        files |= _wanted(f"pytest-carthage-{name}.service", unit, target)
    return files


def script_unit(*, is_all: bool = True) -> Mapping[str, FileInSeed]:
    """The unit of a machine with systemd, where a script configures the network.

    :param is_all: nobody else does; else it comes after the others.
    """
    unit, target = (_ALL_NETWORK, "sysinit") if is_all else (_MORE_NETWORK, "multi-user")
    return _wanted(NETWORK_UNIT, unit, f"{target}.target")


def _wanted(name: str, unit: str, target: str) -> dict[str, FileInSeed]:
    return {
        f"{_UNITS}/{name}": text(unit),
        f"{_UNITS}/{target}.wants/{name}": FileInSeed(target=f"../{name}"),
    }


def runtime_files() -> Mapping[str, FileInSeed]:
    """What systemd finds in ``/run`` at each boot: timers are not due, and some units are not run.

    Nothing of that is in the machine's own configuration.
    """
    timers = {
        path.removeprefix("/run/"): text(unit)
        for path, unit in systemd.FILES.items()
        if path.endswith(".timer.d/00-carthage.conf")
    }
    quiet = {"systemd/system.conf.d/00-carthage.conf": text("[Manager]\nShowStatus=error\n")}
    masks = {f"systemd/system/{unit}": FileInSeed(target="/dev/null") for unit in _MASKED}
    masks |= {
        f"systemd/system-generators/{name}": FileInSeed(target="/dev/null")
        for name in _NO_GENERATORS
    }
    return timers | masks | quiet
