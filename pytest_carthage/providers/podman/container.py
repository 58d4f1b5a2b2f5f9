"""A planned machine as podman's API takes it: SpecGenerator of POST /containers/create."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_carthage.fabric.limits import control_group
from pytest_carthage.model.stop_signal import signal_number
from pytest_carthage.placing import systemd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_carthage.model.image import Healthcheck, ImageConfig
    from pytest_carthage.planning.plan import PlannedMachine
    from pytest_carthage.provider import Context

__all__ = ["specification"]

#: a first process that reaps whatever services leave behind, and ends when asked to; both
#: dash(1) and busybox's shell collect children that they do not know while they wait
_IDLE = ("/bin/sh", "-c", "trap 'exit 0' TERM; sleep infinity & wait $!")

# what a service of a machine may expect beside podman's defaults: interfaces, filters and
# raw sockets in its own network, and PAM's audit messages
_CAPABILITIES = ["AUDIT_WRITE", "NET_ADMIN", "NET_RAW"]

_SIGRTMIN_3 = 37
_PERIOD_US = 100_000


def command_of(planned: PlannedMachine, config: ImageConfig) -> Sequence[str]:
    """What the machine's first process is: as declared, or as its image says."""
    if planned.init == "systemd":
        return systemd.COMMAND
    return planned.command or config.command or _IDLE


def specification(
    planned: PlannedMachine,
    context: Context,
    *,
    root: str,
    netns: str,
    config: ImageConfig,
    files: Mapping[str, Path],
    log: Path,
    has_control_group: bool = True,
) -> dict[str, Any]:
    """Describe the container of a machine.

    :param root: path of its root file system that holds in the fabric.
    :param netns: path of its network namespace that holds in the fabric.
    :param config: what its image says beside its files.
    :param files: path in the machine to the file of the host that stands there.
    :param has_control_group: whether it gets one; else it is in that of whoever starts it.
    """
    spec: dict[str, Any] = {
        "name": planned.name,
        "rootfs": root,
        "entrypoint": [],
        "command": list(command_of(planned, config)),
        # its command sets this, its API does not
        "env": {"container": "podman", **dict(config.env), **planned.env},
        "hostname": planned.hostname,
        "netns": {"nsmode": "path", "value": netns},
        "cap_add": _capabilities(planned, config),
        "privileged": planned.privileges.privileged,
        "devices": [{"path": device} for device in planned.privileges.devices],
        "labels": {
            "carthage.run": context.identity.run,
            "carthage.environment": context.identity.environment,
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
        # without a name: it gets one of its own, and its contents are copied from the image
        "volumes": [{"Name": "", "Dest": path} for path in config.volumes],
        "healthconfig": _healthconfig(config.healthcheck),
        "sdnotifyMode": "ignore",
        "resource_limits": _limits(planned),
    }
    if has_control_group:
        group = control_group(context.identity.run, context.identity.environment)
        spec["cgroup_parent"] = group
    else:
        spec["cgroups_mode"] = "disabled"
    if planned.init == "systemd":
        spec |= {"systemd": "always", "stop_signal": _SIGRTMIN_3, "terminal": True}
        return spec
    spec |= {"user": config.user} if config.user else {}
    spec |= {"work_dir": config.workdir, "create_working_dir": True} if config.workdir else {}
    spec |= {"stop_signal": signal_number(config.stop_signal)} if config.stop_signal else {}
    return spec


def _capabilities(planned: PlannedMachine, config: ImageConfig) -> list[str]:
    """What is added to podman's own; those of a user who is not root would become effective."""
    is_root = planned.init == "systemd" or config.user.partition(":")[0] in ("", "0", "root")
    return sorted({*(_CAPABILITIES if is_root else ()), *planned.privileges.capabilities})


def _healthconfig(check: Healthcheck | None) -> dict[str, Any]:
    """Schema2HealthConfig of podman: durations are in nanoseconds."""
    if check is None:
        return {"Test": ["NONE"]}
    return {
        "Test": ["CMD", *check.command],
        "Interval": int(check.interval_s * 1e9),
        "Timeout": int(check.timeout_s * 1e9),
        "StartPeriod": int(check.start_period_s * 1e9),
        "Retries": check.retries,
    }


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
