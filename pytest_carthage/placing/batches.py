"""What is asked for in one turn of the event loop is made by the fabric in one batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from pytest_carthage.errors import FabricError
from pytest_carthage.fabric.spec import MachineSpec
from pytest_carthage.handles.channel import Channel

__all__ = ["Batches"]


class Batches:
    """Collects the machines that are asked for in one turn of the loop into one request."""

    def __init__(self, fabric: Channel, hosts: Callable[[], str]) -> None:
        self._fabric = fabric
        self._hosts = hosts
        self._specs: list[MachineSpec] = []
        self._answers: dict[str, asyncio.Future[Mapping[str, Any]]] = {}
        self._task: asyncio.Task[None] | None = None

    async def place(self, spec: MachineSpec) -> Mapping[str, Any]:
        """Have the fabric make a machine; returns what it answers of it.

        :raises FabricError: it could not be made.
        """
        future: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[spec["name"]] = future
        self._specs.append(spec)
        if self._task is None:
            self._task = asyncio.create_task(self._send())
        return await future

    async def _send(self) -> None:
        await asyncio.sleep(0)  # let the others of this turn ask, too
        specs, answers = self._specs, self._answers
        self._specs, self._answers, self._task = [], {}, None
        try:
            reply, _ = await self._fabric.request("machines", machines=specs, hosts=self._hosts())
        except BaseException as error:
            for future in answers.values():
                if not future.done():
                    future.set_exception(error)
            return
        for name, future in answers.items():
            if future.done():
                continue
            if name in reply["made"]:
                future.set_result(reply["made"][name])
            else:
                future.set_exception(FabricError(reply["failed"].get(name, "not made")))
