"""A planned machine as podman's API takes it: SpecGenerator of POST /containers/create."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_carthage.fabric.limits import control_group

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_carthage.planning.plan import PlannedMachine
    from pytest_carthage.provider import Context

__all__ = ["specification"]

#: a first process that reaps whatever services leave behind, and ends when asked to; both
#: dash(1) and busybox's shell collect children that they do not know while they wait
_IDLE = ("/bin/sh", "-c", "trap 'exit 0' TERM; sleep infinity & wait $!")

# what a service of a machine may expect beside podman's defaults: interfaces, filters and
# raw sockets in its own network, and PAM's audit messages
_CAPABILITIES = ["AUDIT_WRITE", "NET_ADMIN", "NET_RAW"]

# systemd in a container takes these from its own command line, see kernel-command-line(7).
# The timers would act on the clock in the midst of a test.
_SYSTEMD = (
    "/sbin/init",
    *(
        f"systemd.mask={unit}"
        for unit in (
            "apt-daily-upgrade.timer",
            "apt-daily.timer",
            "console-getty.service",
            "dpkg-db-backup.timer",
            "e2scrub_all.timer",
            "fstrim.timer",
            "man-db.timer",
        )
    ),
    "systemd.show_status=error",
    "systemd.journald.forward_to_console=1",
)
_SIGRTMIN_3 = 37
_PERIOD_US = 100_000


def command_of(planned: PlannedMachine) -> Sequence[str]:
    """What the machine's first process is."""
    if planned.command is not None:
        return planned.command
    return _SYSTEMD if planned.init == "systemd" else _IDLE


def specification(
    planned: PlannedMachine,
    context: Context,
    *,
    root: str,
    netns: str,
    env: Mapping[str, str],
    files: Mapping[str, Path],
    log: Path,
) -> dict[str, Any]:
    """Describe the container of a machine.

    :param root: path of its root file system that holds in the fabric.
    :param netns: path of its network namespace that holds in the fabric.
    :param files: path in the machine to the file of the host that stands there.
    """
    spec: dict[str, Any] = {
        "name": planned.name,
        "rootfs": root,
        "entrypoint": [],
        "command": list(command_of(planned)),
        "env": dict(env),
        "hostname": planned.hostname,
        "netns": {"nsmode": "path", "value": netns},
        "cap_add": _CAPABILITIES,
        "cgroup_parent": control_group(context.environment),
        "labels": {
            "carthage.run": context.run,
            "carthage.environment": context.environment,
            "carthage.machine": planned.name,
        },
        "log_configuration": {"driver": "k8s-file", "path": str(log)},
        # the host's names and resolver are not the machine's
        "use_image_hosts": True,
        "use_image_resolve_conf": True,
        "mounts": [
            {"type": "bind", "source": str(source), "destination": path, "options": ["rw", "bind"]}
            for path, source in files.items()
        ],
        # an image's volumes would be copied for each machine; its own layer will do
        "image_volume_mode": "ignore",
        "healthconfig": {"Test": ["NONE"]},
        "sdnotifyMode": "ignore",
        "resource_limits": _limits(planned),
    }
    if planned.init == "systemd":
        spec |= {"systemd": "always", "stop_signal": _SIGRTMIN_3, "terminal": True}
    return spec


def _limits(planned: PlannedMachine) -> dict[str, Any]:
    """LinuxResources of the OCI runtime specification."""
    limits: dict[str, Any] = {}
    asked = planned.limits
    if asked is None:
        return limits
    if asked.memory_mib is not None:
        limits["memory"] = {"limit": asked.memory_mib * 1024 * 1024}
    if asked.cpus is not None:
        limits["cpu"] = {"quota": round(asked.cpus * _PERIOD_US), "period": _PERIOD_US}
    if asked.pids is not None:
        limits["pids"] = {"limit": asked.pids}
    return limits
