"""Infrastructure as pytest fixtures.

The public names, each imported when it is first used (PEP 562): having the plugin installed costs
next to nothing where no layout is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_carthage.errors import (
        AnsibleError,
        AnsibleModuleError,
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
        OutputLimitError,
        StateError,
        TaskError,
        TimeLimitError,
        UnsupportedError,
    )
    from pytest_carthage.handles.ansible_module import ModuleResult, ModuleResults
    from pytest_carthage.handles.ansible_options import PlaybookOptions
    from pytest_carthage.handles.drift import Drift
    from pytest_carthage.handles.playbook import PlaybookResult
    from pytest_carthage.handles.result import Result
    from pytest_carthage.live.layout import Layout
    from pytest_carthage.live.machines.machine import AsyncMachine, MachineHandle
    from pytest_carthage.live.resolved import LinkResolved, PublicAddressKnown
    from pytest_carthage.model.addresses.ipconfig import LinkContext, V4Config, V6Config
    from pytest_carthage.model.file import File
    from pytest_carthage.model.forward import Forward
    from pytest_carthage.model.image import Healthcheck, Image
    from pytest_carthage.model.machine import (
        Condition,
        Limits,
        Machine,
        command,
        exited,
        file,
        log,
        port,
        rebooted,
        unit,
    )
    from pytest_carthage.model.network import Network, NetworkConfig, NetworkLink, trunk
    from pytest_carthage.model.packages import Packages
    from pytest_carthage.model.role import Role
    from pytest_carthage.model.stage import stage
    from pytest_carthage.model.task import filesystem_task, machine_task

__all__ = [
    "AnsibleError",
    "AnsibleModuleError",
    "AsyncMachine",
    "BlockedError",
    "BuildError",
    "CarthageError",
    "CommandError",
    "Condition",
    "CreationError",
    "Drift",
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
    "MachineHandle",
    "ModuleResult",
    "ModuleResults",
    "Network",
    "NetworkConfig",
    "NetworkLink",
    "OutputLimitError",
    "Packages",
    "PlaybookOptions",
    "PlaybookResult",
    "PublicAddressKnown",
    "Result",
    "Role",
    "StateError",
    "TaskError",
    "TimeLimitError",
    "UnsupportedError",
    "V4Config",
    "V6Config",
    "command",
    "exited",
    "file",
    "filesystem_task",
    "log",
    "machine_task",
    "port",
    "rebooted",
    "stage",
    "trunk",
    "unit",
]

_HOMES = {
    "Condition": "model.machine",
    "Drift": "handles.drift",
    "File": "model.file",
    "Forward": "model.forward",
    "Healthcheck": "model.image",
    "Image": "model.image",
    "Layout": "live.layout",
    "Limits": "model.machine",
    "LinkContext": "model.addresses.ipconfig",
    "LinkResolved": "live.resolved",
    "AsyncMachine": "live.machines.machine",
    "Machine": "model.machine",
    "MachineHandle": "live.machines.machine",
    "ModuleResult": "handles.ansible_module",
    "ModuleResults": "handles.ansible_module",
    "PlaybookOptions": "handles.ansible_options",
    "PlaybookResult": "handles.playbook",
    "Result": "handles.result",
    "Network": "model.network",
    "NetworkConfig": "model.network",
    "NetworkLink": "model.network",
    "Packages": "model.packages",
    "PublicAddressKnown": "live.resolved",
    "Role": "model.role",
    "V4Config": "model.addresses.ipconfig",
    "V6Config": "model.addresses.ipconfig",
    "command": "model.machine",
    "exited": "model.machine",
    "file": "model.machine",
    "filesystem_task": "model.task",
    "log": "model.machine",
    "machine_task": "model.task",
    "port": "model.machine",
    "rebooted": "model.machine",
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
