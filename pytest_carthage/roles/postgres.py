"""A database server."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_carthage.model.role import Role
from pytest_carthage.model.task import machine_task

if TYPE_CHECKING:
    from pytest_carthage.roles.served import Served

__all__ = ["Postgres"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres(Role):
    """The PostgreSQL server of the distribution, for clients on the machine's networks."""

    packages = ("postgresql",)
    offers = ("postgres",)

    #: databases to create, where they do not exist
    databases: tuple[str, ...] = ()
    #: the superuser's password for clients on the network; None: they need none
    password: str | None = None

    @machine_task("start PostgreSQL for the machine's networks")
    async def start(self, machine: Served) -> None:
        """Let it listen on all addresses and start it anew."""
        method = "trust" if self.password is None else "scram-sha-256"
        await machine.run(_LISTEN.format(rule=f"host all all samenet {method}"))
        await machine.run(["service", "postgresql", "restart"])
        await machine.run(_UNTIL_IT_ANSWERS, user="postgres", timeout_s=60)

    @machine_task("set the superuser's password, and create databases")
    async def fill(self, machine: Served) -> None:
        """Set the password, where there is one; create the databases that do not exist."""
        if self.password is not None:
            quoted = self.password.replace("'", "''")
            await machine.run(
                ["psql", "--quiet"],
                user="postgres",
                input=f"ALTER USER postgres PASSWORD '{quoted}';",
                secret=True,  # psql prints the line that it complains of
            )
        for database in self.databases:
            quoted = shlex.quote(database)
            await machine.run(
                f"psql -lqtA | cut -d'|' -f1 | grep -qxF -- {quoted} || createdb -- {quoted}",
                user="postgres",
            )


# The distribution's own cluster, whatever its version; each step is done once.
_LISTEN = """\
set -e
for folder in /etc/postgresql/*/main; do
    mkdir -p "$folder/conf.d"
    echo "listen_addresses = '*'" > "$folder/conf.d/carthage.conf"
    grep -qxF '{rule}' "$folder/pg_hba.conf" || echo '{rule}' >> "$folder/pg_hba.conf"
done
"""

_UNTIL_IT_ANSWERS = "until pg_isready --quiet; do sleep 0.1; done"
