"""Layouts in memory: stages, roles, handles and testinfra on them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_carthage import (
    CommandError,
    CreationError,
    Layout,
    LayoutError,
    Machine,
    Network,
    Role,
    TimeLimitError,
    V4Config,
    file,
    machine_task,
    port,
    stage,
    testing,
)
from pytest_carthage.errors import FabricError
from pytest_carthage.testing import Call, Output


@dataclass(frozen=True)
class Greeter(Role):
    """Greets whoever asks."""

    word: str = "hello"

    @machine_task
    async def configure(self, machine: object) -> None:
        fs: testing.FakeMachine = machine  # type: ignore[assignment]
        await fs.write_text("/etc/greeter", self.word)  # type: ignore[attr-defined]


class Shop(Layout):
    lan = Network("10.0.0.0/24")
    db = Machine(links={"eth0": lan.at(".10")})
    web = Machine(roles=[Greeter(word="moin")], links={"eth0": lan.at(".20")}, env={"SHOP": "1"})


@stage
async def imported(shop: Shop) -> int:
    await shop.db.aio.write_text("/srv/dump", "a,b")
    tills = await shop.db.aio.run("psql -c tills", input="x", user="postgres")
    return len(tills.lines)


@stage
def switched_off(shop: Shop, imported: int) -> str:
    shop.db.stop()
    return "off" * imported


def test_stage_on_a_layout_in_memory_asks_what_it_should() -> None:
    asked: list[Call] = []

    def psql(call: Call) -> str:
        asked.append(call)
        return "till-1\ntill-2\n"

    with testing.live(Shop, answers={"psql *": psql}) as shop:
        assert testing.run_stage(imported, shop=shop) == 2
        assert testing.run_stage(switched_off, shop=shop, imported=2) == "offoff"
        db = testing.fakes(shop)["db"]
        assert db.files["/srv/dump"] == "a,b"
        assert db.commands == ["psql -c tills"]
        assert (db.power, db.starts) == ("off", 1)
    (call,) = asked
    assert (call.argv, call.user, call.input) == (("psql", "-c", "tills"), "postgres", b"x") or (
        call.argv,
        call.user,
        call.input,
    ) == (("/bin/sh", "-c", "psql -c tills"), "postgres", b"x")
    assert call.env["HOME"] == "/home/postgres"


def test_layout_in_memory_starts_no_process_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARTHAGE_STATE", str(tmp_path / "state"))
    started: list[object] = []
    monkeypatch.setattr(os, "fork", lambda: started.append("fork"))
    monkeypatch.setattr("subprocess.Popen", lambda *a, **k: started.append(a))
    with testing.live(Shop):
        pass
    threads = set(threading.enumerate())
    before = sorted(Path("/proc/self/fd").iterdir())
    with testing.live(Shop) as shop:
        shop.web.run("true")
        folder = shop.folder
        assert folder.is_dir()
    assert sorted(Path("/proc/self/fd").iterdir()) == before
    assert started == []
    assert not (tmp_path / "state").exists()
    assert not folder.exists()
    assert {thread for thread in threading.enumerate() if thread.name == "carthage"} <= threads


def test_tasks_of_roles_are_done_and_hosts_are_known() -> None:
    with testing.live(Shop) as shop:
        assert shop.web.read_text("/etc/greeter") == "moin"
        assert "10.0.0.10 db" in shop.web.read_text("/etc/hosts")
        added = shop.add(Machine(links={"eth0": shop.lan.at(".30")}), name="till")
        assert "10.0.0.30 till" in shop.web.read_text("/etc/hosts")
        assert added.address("lan") == "10.0.0.30"
        shop.remove("till")
        assert list(testing.fakes(shop)) == ["db", "web"]


def test_condition_that_does_not_hold_is_told_as_on_a_real_machine() -> None:
    class Waiting(Layout):
        web = Machine(wait_for=[port(80), file("/srv/ready")], ready_timeout_s=0.05)

    with (
        pytest.raises(CreationError, match=r"no port 80 after .* \(last: listening on nothing\)"),
        testing.live(Waiting),
    ):
        pass


def test_files_are_there_before_conditions_and_tasks() -> None:
    class Waiting(Layout):
        web = Machine(wait_for=[file("/srv/ready")], ready_timeout_s=0.05)

    with testing.live(Waiting, files={"web": {"/srv/ready": "yes"}}) as waiting:
        assert waiting.web.read_text("/srv/ready") == "yes"


def test_mistake_of_a_layout_is_found_in_memory_too() -> None:
    class Lost(Layout):
        target = "nowhere"
        web = Machine(init="systemd")

    with (
        pytest.raises(LayoutError, match="cannot run systemd"),
        testing.live(Layout.of("Wrong", {"web": Machine(init="systemd")})),
    ):
        pass
    with testing.live(Lost) as lost:  # a target that is not installed is no mistake here
        assert lost.web.run("true").ok


def test_unanswered_command_says_what_to_do() -> None:
    with testing.live(Shop) as shop:
        with pytest.raises(
            CommandError,
            match=r"(?s)machine 'db' of layout 'Shop': 'pg_dump shop' exited with status 127.*"
            r"nothing answers 'pg_dump shop'; try: answers=\{'pg_dump shop': \.\.\.\}",
        ):
            shop.db.run("pg_dump shop")
        assert shop.db.run(["echo", "*"]).stdout == "*\n"
        assert shop.db.run("echo $HOME", check=False).status == 127  # that takes a shell
        assert shop.db.run("echo 'a $b'").stdout == "a $b\n"


def test_answers_are_texts_statuses_outputs_and_functions() -> None:
    async def slowly(call: Call) -> Output:
        await asyncio.sleep(0)
        return Output(stdout=call.input.upper(), stderr="done", status=4)

    answers: dict[str, testing.Answer] = {
        "text": "out",
        "bytes": b"\xff",
        "status *": 3,
        "slow": slowly,
        "other *": lambda call: None,
        "other yes": lambda call: call.cwd,
        "is ok": lambda call: True,
    }
    with testing.live(Shop, answers=answers) as shop:
        run = shop.web.run
        assert run("text").stdout == "out"
        assert run("bytes").stdout_bytes == b"\xff"
        assert run("status 3", check=False).status == 3
        slow = run(["slow"], input="abc", check=False)
        assert (slow.stdout, slow.stderr, slow.status) == ("ABC", "done", 4)
        assert run("other yes", cwd="/srv").stdout == "/srv"
        assert run("other no", check=False).status == 127
        assert run("is ok").status == 0
        testing.fakes(shop)["web"].answer("text", "newer")
        assert run("text").stdout == "newer"
        assert shop.db.run("text").stdout == "out"


def test_failing_answer_surfaces_as_what_it_raised() -> None:
    def wrong(call: Call) -> str:
        raise KeyError("mine")

    with (
        testing.live(Shop, answers={"x": wrong}) as shop,
        pytest.raises(FabricError, match="the answer to 'x' failed: KeyError: 'mine'") as caught,
    ):
        shop.web.run("x")
    assert isinstance(caught.value.__cause__, KeyError)
    with (
        testing.live(Shop, answers={"x": 1.5}) as shop,  # type: ignore[dict-item]
        pytest.raises(FabricError, match=r"the answer to 'x' is 1.5; try: text, a status"),
    ):
        shop.web.run("x")


def test_command_that_takes_too_long_is_cancelled() -> None:
    begun, ended = threading.Event(), threading.Event()

    async def forever(call: Call) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    with testing.live(Shop, answers={"forever": forever}) as shop:
        with pytest.raises(TimeLimitError, match=r"'forever' did not end in 0\.5 s"):
            shop.web.run("forever", timeout_s=0.5)
        assert begun.is_set()
        assert ended.wait(5)
        begin = time.monotonic()
        with pytest.raises(TimeLimitError):  # killed before it has begun
            shop.web.run("forever", timeout_s=0)
        assert time.monotonic() - begin < 5


def test_large_input_and_output_pass_whole() -> None:
    data = os.urandom(1 << 20)
    with testing.live(Shop) as shop:
        assert shop.web.run("cat", input=data).stdout_bytes == data


def test_environment_of_a_command_is_the_machines_and_the_callers() -> None:
    with testing.live(Shop) as shop:
        assert shop.web.run("printenv SHOP USER X", env={"X": "y"}).lines == ["1", "root", "y"]
        assert shop.web.run("pwd").stdout == "/root\n"
        assert shop.web.run("id -un", user="shop").stdout == "shop\n"
        with pytest.raises(FabricError, match="no folder '/nowhere' to run a command in"):
            shop.web.run("pwd", cwd="/nowhere")


def test_files_are_put_and_got(tmp_path: Path) -> None:
    (tmp_path / "conf" / "sub").mkdir(parents=True)
    (tmp_path / "conf" / "sub" / "a").write_text("1")
    (tmp_path / "conf" / "b").symlink_to("sub/a")
    with testing.live(Shop) as shop:
        shop.web.put(tmp_path / "conf", "/etc/shop", user="shop")
        web = testing.fakes(shop)["web"]
        assert web.files["/etc/shop/b"] == "1"
        assert web.files.owner("/etc/shop/sub/a") == "shop"
        assert shop.web.get("/etc/shop/b", tmp_path / "back").read_text() == "1"
        with pytest.raises(IsADirectoryError):
            shop.web.get("/etc/shop", tmp_path / "folder")
        with pytest.raises(FileNotFoundError):
            shop.web.read_text("/etc/none")


def test_testinfra_works_on_a_machine_in_memory() -> None:
    pytest.importorskip("testinfra", reason="the extra testinfra is not installed")
    with testing.live(Shop, answers={"systemctl is-active nginx": "active\n"}) as shop:
        host = shop.web.host
        assert host.file("/etc/greeter").content_string == "moin"
        assert host.file("/etc").is_directory
        assert not host.file("/etc/none").exists
        assert host.check_output("hostname") == "web"
        assert host.run("false").rc == 1


def test_power_and_faults_are_remembered() -> None:
    with testing.live(Shop) as shop:
        world = testing.fakes(shop)
        with shop.web.link("lan").impair(loss_pct=5), shop.partition("web", "db"):
            assert [fault.kind for fault in world.faults if fault.is_active] == [
                "impair",
                "partition",
            ]
        assert not any(fault.is_active for fault in world.faults)
        assert [fault.machines for fault in world.faults] == [("web",), ("web", "db")]
        shop.db.stop()
        with pytest.raises(FabricError, match="machine 'db' of layout 'Shop': it is stopped"):
            shop.db.run("true")
        shop.db.start()
        assert (world["db"].power, world["db"].starts) == ("on", 2)
        with shop.web.crash():
            assert world["web"].power == "off"
        assert world["web"].power == "on"
        world["web"].log = "ready\n"
        assert shop.web.logs() == "ready\n"


class Server(Role):
    serves_dhcp = True


def test_addresses_that_servers_would_give_are_there_in_memory() -> None:
    class Lent(Layout):
        lan = Network(v4=V4Config(network="10.0.0.0/24", dhcp_ranges=[(".100", ".199")]))
        dhcp = Machine(roles=[Server()], links={"eth0": lan.at(".1")})
        web = Machine(links={"eth0": lan.at(dhcp=True)})

    with testing.live(Lent) as lent:
        assert lent.web.address("lan") == "10.0.0.254"
        assert "10.0.0.254 web" in lent.dhcp.read_text("/etc/hosts")


def test_real_layout_has_no_fakes() -> None:
    with testing.live(Shop) as shop, contextlib.ExitStack():
        known = shop
    with pytest.raises(LookupError, match=r"was not made by testing\.live"):
        testing.fakes(known)


def test_what_is_no_stage_is_refused() -> None:
    with pytest.raises(TypeError, match=r"is no stage; try: a function with @stage"):
        testing.run_stage(len, shop=None)


def test_fixture_of_a_layout_in_memory_is_new_for_each_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from pytest_carthage import Layout, Machine, testing

        class Shop(Layout):
            web = Machine()

        shop = testing.fixture(Shop, answers={"count *": "3"})

        def test_one(shop):
            assert shop.web.run("count tills").stdout == "3"
            shop.web.write_text("/srv/here", "x")

        def test_two(shop):
            assert not shop.web.exists("/srv/here")
        """
    )
    result = pytester.runpytest_subprocess("-q")
    result.assert_outcomes(passed=2)
