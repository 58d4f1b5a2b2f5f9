"""Infrastructure as pytest fixtures.

The public names, each imported when it is first used (PEP 562): having the plugin installed costs
next to nothing where no layout is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_carthage.access.resolved import LinkResolved, PublicAddressKnown
    from pytest_carthage.errors import (
        AnsibleError,
        BlockedError,
        BuildError,
        CarthageError,
        CommandError,
        CreationError,
        FabricError,
        FaultError,
        GateError,
        HostError,
        LayoutError,
        StateError,
        TaskError,
        TimeLimitError,
    )
    from pytest_carthage.model.image import File, Healthcheck, Image
    from pytest_carthage.model.ipconfig import LinkContext, V4Config, V6Config
    from pytest_carthage.model.layout import Layout
    from pytest_carthage.model.machine import (
        Condition,
        Forward,
        Limits,
        Machine,
        command,
        file,
        log,
        port,
        unit,
    )
    from pytest_carthage.model.network import Network, NetworkConfig, NetworkLink, trunk
    from pytest_carthage.model.role import Role
    from pytest_carthage.model.stage import stage
    from pytest_carthage.model.task import filesystem_task, machine_task

__all__ = [
    "AnsibleError",
    "BlockedError",
    "BuildError",
    "CarthageError",
    "CommandError",
    "Condition",
    "CreationError",
    "FabricError",
    "FaultError",
    "File",
    "Forward",
    "GateError",
    "Healthcheck",
    "HostError",
    "Image",
    "Layout",
    "LayoutError",
    "Limits",
    "LinkContext",
    "LinkResolved",
    "Machine",
    "Network",
    "NetworkConfig",
    "NetworkLink",
    "PublicAddressKnown",
    "Role",
    "StateError",
    "TaskError",
    "TimeLimitError",
    "V4Config",
    "V6Config",
    "command",
    "file",
    "filesystem_task",
    "log",
    "machine_task",
    "port",
    "stage",
    "trunk",
    "unit",
]

_HOMES = {
    "Condition": "model.machine",
    "File": "model.image",
    "Forward": "model.machine",
    "Healthcheck": "model.image",
    "Image": "model.image",
    "Layout": "model.layout",
    "Limits": "model.machine",
    "LinkContext": "model.ipconfig",
    "LinkResolved": "access.resolved",
    "Machine": "model.machine",
    "Network": "model.network",
    "NetworkConfig": "model.network",
    "NetworkLink": "model.network",
    "PublicAddressKnown": "access.resolved",
    "Role": "model.role",
    "V4Config": "model.ipconfig",
    "V6Config": "model.ipconfig",
    "command": "model.machine",
    "file": "model.machine",
    "filesystem_task": "model.task",
    "log": "model.machine",
    "machine_task": "model.task",
    "port": "model.machine",
    "stage": "model.stage",
    "trunk": "model.network",
    "unit": "model.machine",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
