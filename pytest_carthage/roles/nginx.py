"""A web server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_carthage.model.role import Role
from pytest_carthage.model.task import machine_task

if TYPE_CHECKING:
    from pytest_carthage.roles.served import Served

__all__ = ["Nginx"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Nginx(Role):
    """The nginx web server of the distribution, serving ``/var/www/html`` on port 80."""

    packages = ("nginx",)
    offers = ("http",)

    @machine_task("start nginx")
    async def start(self, machine: Served) -> None:
        """Start it, or leave a running one alone."""
        await machine.run(["service", "nginx", "start"])
