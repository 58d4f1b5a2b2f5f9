from __future__ import annotations

import asyncio
import subprocess
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from pytest_carthage import Role
from pytest_carthage.roles import Nginx, Postgres, Router

if TYPE_CHECKING:
    from pytest_carthage.access.machine import AsyncMachine


class Recorder:
    """Stands for a machine; keeps what was run in it."""

    def __init__(self) -> None:
        self.ran: list[tuple[Any, Any]] = []

    async def run(self, command: Any, **options: Any) -> None:
        self.ran.append((command, options))


def configured(role: Role) -> list[tuple[Any, Any]]:
    machine = Recorder()
    asyncio.run(role.configure(cast("AsyncMachine", machine)))
    return machine.ran


def test_role_asks_for_nothing_by_default() -> None:
    role = Role()
    assert (role.packages, role.forward, role.masquerade, role.groups) == ((), False, (), ())
    assert configured(role) == []


def test_role_of_a_user_overrides_with_attribute_field_and_property() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Cache(Role):
        groups = ("caches",)
        forward: bool = True
        size: int = 1

        @property
        def packages(self) -> list[str]:
            return ["redis-server"] if self.size > 1 else []

    assert (Cache().groups, Cache().forward) == (("caches",), True)
    assert Cache(size=2).packages == ["redis-server"]
    with pytest.raises(FrozenInstanceError):
        Cache().size = 3  # type: ignore[misc]


def test_router_forwards_and_needs_nothing() -> None:
    router = Router(masquerade="dmz0")
    assert (router.forward, router.masquerade, router.packages) == (True, "dmz0", ())
    assert configured(router) == []


def test_nginx_is_started() -> None:
    assert Nginx().packages == ("nginx",)
    assert configured(Nginx()) == [(["service", "nginx", "start"], {})]


def test_postgres_without_password_trusts_its_networks() -> None:
    assert Postgres().packages == ("postgresql",)
    commands = [command for command, _ in configured(Postgres())]
    assert "host all all samenet trust" in commands[0]
    assert commands[1] == ["service", "postgresql", "restart"]
    assert len(commands) == 3


def test_postgres_with_password_and_databases_creates_them() -> None:
    ran = configured(Postgres(password="it's", databases=("shop", "a b")))
    assert "host all all samenet scram-sha-256" in ran[0][0]
    assert ran[3][1] == {"user": "postgres", "input": "ALTER USER postgres PASSWORD 'it''s';"}
    assert [command.rpartition("|| ")[2] for command, _ in ran[4:]] == [
        "createdb -- shop",
        "createdb -- 'a b'",
    ]


def test_postgres_writes_its_settings_once(tmp_path: Path) -> None:
    folder = tmp_path / "15" / "main"
    folder.mkdir(parents=True)
    rules = folder / "pg_hba.conf"
    rules.write_text("local all all peer\n")
    script = configured(Postgres())[0][0].replace("/etc/postgresql", str(tmp_path))
    for _ in range(2):
        subprocess.run(["/bin/sh", "-c", script], check=True, timeout=10)
    assert rules.read_text() == "local all all peer\nhost all all samenet trust\n"
    assert (folder / "conf.d" / "carthage.conf").read_text() == "listen_addresses = '*'\n"
