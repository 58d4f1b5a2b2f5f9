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
        BundleError,
        CallError,
        CarthageError,
        CommandError,
        CreationError,
        FabricError,
        FaultError,
        ForkedError,
        GateError,
        HostError,
        LayoutError,
        LockError,
        OutputLimitError,
        Problem,
        RestoreError,
        StateError,
        TaskError,
        TimeLimitError,
        UnsupportedError,
    )
    from pytest_carthage.events import Event
    from pytest_carthage.handles.ansible_module import ModuleResult, ModuleResults
    from pytest_carthage.handles.ansible_options import PlaybookOptions
    from pytest_carthage.handles.drift import Drift
    from pytest_carthage.handles.gates import GateConnection, GateRecord, GateTotals
    from pytest_carthage.handles.network import (
        Counters,
        InterfaceAddress,
        InterfaceState,
        Neighbour,
        NextHop,
        Route,
    )
    from pytest_carthage.handles.playbook import HostResult, PlaybookResult, TaskResult
    from pytest_carthage.handles.result import Result
    from pytest_carthage.images.exports.oci.history import HistoryEntry
    from pytest_carthage.images.handle import ImageHandle
    from pytest_carthage.labs.documents import Remark
    from pytest_carthage.live.environment import AsyncLayout
    from pytest_carthage.live.faults.disturbance import AsyncDisturbance, Disturbance
    from pytest_carthage.live.layout import Layout
    from pytest_carthage.live.machines.link import AsyncLink, LinkHandle
    from pytest_carthage.live.machines.machine import AsyncMachine, MachineHandle
    from pytest_carthage.live.machines.network import AsyncNetworkView, NetworkView
    from pytest_carthage.live.openings.gate import AsyncGate, Gate
    from pytest_carthage.live.openings.span import AsyncSpan, Span
    from pytest_carthage.live.openings.station import Inside, Station
    from pytest_carthage.live.packets.capture import AsyncCapture, Capture
    from pytest_carthage.live.packets.packets import Arp, Packet
    from pytest_carthage.live.packets.sealing import SealReport
    from pytest_carthage.live.resolved import LinkResolved, NetworkEvent, PublicAddressKnown
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
        screen,
        unit,
    )
    from pytest_carthage.model.network import Network, NetworkConfig, NetworkLink, trunk
    from pytest_carthage.model.on import On
    from pytest_carthage.model.packages import Packages
    from pytest_carthage.model.role import Role
    from pytest_carthage.model.ssh import Here, Ssh
    from pytest_carthage.model.stage import stage
    from pytest_carthage.model.task import filesystem_task, machine_task
    from pytest_carthage.model.vm import Disk, Vm
    from pytest_carthage.store.layer import Layer, LayerMeta
    from pytest_carthage.work.files.filesystem import AsyncFilesystem, Filesystem

__all__ = [
    "AnsibleError",
    "AnsibleModuleError",
    "Arp",
    "AsyncCapture",
    "AsyncDisturbance",
    "AsyncFilesystem",
    "AsyncGate",
    "AsyncLayout",
    "AsyncLink",
    "AsyncMachine",
    "AsyncNetworkView",
    "AsyncSpan",
    "BlockedError",
    "BuildError",
    "BundleError",
    "CallError",
    "Capture",
    "CarthageError",
    "CommandError",
    "Condition",
    "Counters",
    "CreationError",
    "Disk",
    "Disturbance",
    "Drift",
    "Event",
    "FabricError",
    "FaultError",
    "File",
    "Filesystem",
    "ForkedError",
    "Forward",
    "Gate",
    "GateConnection",
    "GateError",
    "GateRecord",
    "GateTotals",
    "Healthcheck",
    "Here",
    "HistoryEntry",
    "HostError",
    "HostResult",
    "Image",
    "ImageHandle",
    "Inside",
    "InterfaceAddress",
    "InterfaceState",
    "Layer",
    "LayerMeta",
    "Layout",
    "LayoutError",
    "Limits",
    "LinkContext",
    "LinkHandle",
    "LinkResolved",
    "LockError",
    "Machine",
    "MachineHandle",
    "ModuleResult",
    "ModuleResults",
    "Neighbour",
    "Network",
    "NetworkConfig",
    "NetworkEvent",
    "NetworkLink",
    "NetworkView",
    "NextHop",
    "On",
    "OutputLimitError",
    "Packages",
    "Packet",
    "PlaybookOptions",
    "PlaybookResult",
    "Problem",
    "PublicAddressKnown",
    "Remark",
    "RestoreError",
    "Result",
    "Role",
    "Route",
    "SealReport",
    "Span",
    "Ssh",
    "StateError",
    "Station",
    "TaskError",
    "TaskResult",
    "TimeLimitError",
    "UnsupportedError",
    "V4Config",
    "V6Config",
    "Vm",
    "command",
    "exited",
    "file",
    "filesystem_task",
    "log",
    "machine_task",
    "port",
    "rebooted",
    "screen",
    "stage",
    "trunk",
    "unit",
]

#: module to the public names that it holds; errors are not listed
_HOMES = {
    "events": "Event",
    "handles.ansible_module": "ModuleResult ModuleResults",
    "handles.ansible_options": "PlaybookOptions",
    "handles.drift": "Drift",
    "handles.gates": "GateConnection GateRecord GateTotals",
    "handles.network": "Counters InterfaceAddress InterfaceState Neighbour NextHop Route",
    "handles.playbook": "HostResult PlaybookResult TaskResult",
    "handles.result": "Result",
    "images.exports.oci.history": "HistoryEntry",
    "images.handle": "ImageHandle",
    "labs.documents": "Remark",
    "live.faults.disturbance": "AsyncDisturbance Disturbance",
    "live.environment": "AsyncLayout",
    "live.layout": "Layout",
    "live.machines.link": "AsyncLink LinkHandle",
    "live.machines.machine": "AsyncMachine MachineHandle",
    "live.machines.network": "AsyncNetworkView NetworkView",
    "live.openings.gate": "AsyncGate Gate",
    "live.openings.span": "AsyncSpan Span",
    "live.openings.station": "Inside Station",
    "live.packets.capture": "AsyncCapture Capture",
    "live.packets.packets": "Arp Packet",
    "live.packets.sealing": "SealReport",
    "live.resolved": "LinkResolved NetworkEvent PublicAddressKnown",
    "model.addresses.ipconfig": "LinkContext V4Config V6Config",
    "model.file": "File",
    "model.forward": "Forward",
    "model.image": "Healthcheck Image",
    "model.machine": "Condition Limits Machine command exited file log port rebooted screen unit",
    "model.network": "Network NetworkConfig NetworkLink trunk",
    "model.on": "On",
    "model.packages": "Packages",
    "model.role": "Role",
    "model.ssh": "Here Ssh",
    "model.stage": "stage",
    "model.task": "filesystem_task machine_task",
    "model.vm": "Disk Vm",
    "store.layer": "Layer LayerMeta",
    "work.files.filesystem": "AsyncFilesystem Filesystem",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next((home for home, names in _HOMES.items() if name in names.split()), "errors")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
