"""What every machine promises: commands, files, connections, by whatever it is reached."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from pytest_carthage import CommandError, TimeLimitError, command, file, port
from pytest_carthage.errors import FabricError
from pytest_carthage.handles.capability import lacking
from pytest_carthage.state.listing import look
from tests.contract.conftest import Target


def test_endpoint_says_what_it_can_be_asked_for(target: Target) -> None:
    operations = getattr(target.a.aio.channel, "operations", None)
    assert operations, "an endpoint says at the start which operations it has"
    assert {name for name in lacking(operations) if target.a.can(name)} == set()


def test_way_that_a_deputy_goes_is_told_by_the_machine_and_by_the_list(target: Target) -> None:
    way = target.a.aio.way
    assert (way is not None) == (target.kind in ("cell", "libvirt", "ssh"))
    if target.world is None:
        alive = [each for each in look().environments if each.name == target.pair.name]
        assert [each.machines["a"].get("way") for each in alive] == [way]


# commands


def test_command_gives_its_output_and_status(target: Target) -> None:
    target.needs("run")
    assert target.a.run("echo hello").stdout == "hello\n"
    assert target.a.run(["echo", "a b", "$HOME"]).stdout == "a b $HOME\n"
    failed = target.a.run("exit 3", check=False)
    assert (failed.status, failed.ok) == (3, False)
    with pytest.raises(CommandError, match="machine 'a' of layout 'Pair': 'exit 4' exited with"):
        target.a.run("exit 4")


def test_command_gets_its_input_whole(target: Target) -> None:
    target.needs("run")
    data = os.urandom(1 << 20)
    assert target.a.run(["cat"], input=data).stdout_bytes == data
    assert target.a.run(["cat"]).stdout == ""


def test_command_that_is_not_there_has_a_shells_status(target: Target) -> None:
    target.needs("run")
    assert target.a.run(["no-such-program"], check=False).status == 127


def test_command_has_the_machines_environment_and_its_own(target: Target) -> None:
    target.needs("run")
    assert target.a.run(["printenv", "SHOP"]).stdout == "corner\n"
    assert target.a.run(["printenv", "SHOP"], env={"SHOP": "a b"}).stdout == "a b\n"
    assert target.a.run(["printenv", "USER"]).stdout == "root\n"
    # nothing of who has started all this
    assert target.a.run(["printenv", "CARTHAGE_STATE"], check=False).status == 1


def test_command_is_run_as_a_user_and_in_a_folder(target: Target) -> None:
    target.needs("run")
    assert target.a.run(["pwd"]).stdout == "/root\n"
    assert target.a.run(["pwd"], cwd="/etc").stdout == "/etc\n"
    assert target.a.run(["id", "-un"]).stdout == "root\n"
    if target.kind == "netns" and not target.has_image and os.geteuid() != 0:
        pytest.skip("this host's user is the only one in a machine of its own")
    assert target.a.run(["id", "-un"], user="nobody").stdout == "nobody\n"
    assert target.a.run(["printenv", "USER"], user="nobody").stdout == "nobody\n"


def test_command_beyond_its_time_ends_with_what_it_said_until_then(target: Target) -> None:
    target.needs("run")
    begin = time.monotonic()
    with pytest.raises(TimeLimitError, match=r"'sleep 30' did not end in 0\.5 s"):
        target.a.run("sleep 30", timeout_s=0.5)
    assert time.monotonic() - begin < 15
    assert target.a.run("true").ok


# files


def test_text_is_written_and_read(target: Target) -> None:
    target.needs("files")
    target.a.write_text("/tmp/text", "hellö", mode=0o640)
    assert target.a.read_text("/tmp/text") == "hellö"
    assert target.a.exists("/tmp/text")
    assert not target.b.exists("/tmp/text")
    target.a.write_text("/tmp/text", "x")
    assert target.a.read_text("/tmp/text") == "x"
    if target.a.can("run"):  # commands and files are of one world
        assert target.a.run(["cat", "/tmp/text"]).stdout == "x"


def test_file_that_is_not_there_is_told_as_by_the_kernel(target: Target) -> None:
    target.needs("files")
    with pytest.raises(FileNotFoundError, match="/tmp/none"):
        target.a.read_text("/tmp/none")
    with pytest.raises(IsADirectoryError):
        target.a.get("/tmp", "/dev/null")
    assert not target.a.exists("/tmp/none/below")


def test_what_is_no_file_is_not_read_and_told_by_name(target: Target) -> None:
    target.needs("files")
    with pytest.raises(IsADirectoryError, match="this is a folder, and no file to be read"):
        target.a.read_text("/tmp")
    if target.kind == "fake":
        return  # there is nothing else that is no file
    with pytest.raises(OSError, match="this is a device, and no file to be read as a whole"):
        target.a.read_text("/dev/zero")
    if target.a.can("run"):
        target.a.run(["mkfifo", "/tmp/pipe"])
        with pytest.raises(OSError, match="this is a pipe, and no file to be read as a whole"):
            target.a.read_text("/tmp/pipe")


def test_folder_is_put_with_links_and_modes_and_a_file_got(target: Target, tmp_path: Path) -> None:
    target.needs("files")
    data = os.urandom(1 << 20)
    (tmp_path / "conf" / "sub").mkdir(parents=True)
    (tmp_path / "conf" / "sub" / "data").write_bytes(data)
    (tmp_path / "conf" / "sub" / "data").chmod(0o750)
    (tmp_path / "conf" / "now").symlink_to("sub/data")
    target.a.put(tmp_path / "conf", "/tmp/conf")
    assert target.a.get("/tmp/conf/now", tmp_path / "back").read_bytes() == data

    async def mode() -> int:
        reply, _ = await target.a.aio.channel.request("stat", path="/tmp/conf/sub/data")
        return int(reply["mode"])

    assert stat.S_IMODE(target.portal.call(mode)) == 0o750


def test_testinfra_asserts_on_it(target: Target) -> None:
    target.needs("run", "files")
    target.a.write_text("/tmp/asserted", "yes")
    assert target.a.host.file("/tmp/asserted").content_string == "yes"
    assert not target.a.host.file("/tmp/none").exists


# conditions


def test_conditions_hold_or_tell_what_was_seen(target: Target) -> None:
    target.needs("run", "files")
    target.a.wait_for(command("true"), timeout_s=5)
    with pytest.raises(TimeLimitError, match=r"no command false after .*last: status 1"):
        target.a.wait_for(command("false"), timeout_s=2)
    with pytest.raises(TimeLimitError, match="no file /tmp/soon after"):
        target.a.wait_for(file("/tmp/soon"), timeout_s=0.3)
    target.a.write_text("/tmp/soon", "")
    target.a.wait_for(file("/tmp/soon"), timeout_s=5)


# connections


def test_service_is_waited_for_and_connected_to(target: Target) -> None:
    target.needs("listening", "connect")
    with pytest.raises(TimeLimitError, match="no port 7001 after"):
        target.a.wait_for(port(7001), timeout_s=0.3)
    target.serve(target.a, 7001)
    target.a.wait_for(port(7001), timeout_s=20)
    with target.a.connect(7001) as near:
        near.settimeout(10)
        assert near.recv(5) == b"hello"
        assert near.recv(1) == b""


def test_connection_to_nobody_is_refused_as_by_the_kernel(target: Target) -> None:
    target.needs("connect")
    with pytest.raises(ConnectionRefusedError):
        target.a.connect(7999)
    with pytest.raises(OSError, match="no host 'nowhere-at-all'"):
        target.a.connect(7999, "nowhere-at-all")


def test_connection_that_nobody_answers_is_told_when_its_time_is_over(target: Target) -> None:
    target.needs("connect", "links")
    if target.kind == "fake":
        return  # it connects in no network of the layout's
    address = target.b.address("lan")
    with (
        target.pair.partition("a", "b"),
        pytest.raises(TimeoutError, match=r"no answer from \S+:7003 after 0.5 s"),
    ):
        target.a.connect(7003, address, timeout_s=0.5)


def test_socket_of_its_network_listens_for_another_machine(target: Target) -> None:
    target.needs("socket", "links")
    with target.a.socket() as listener:
        listener.bind(("0.0.0.0", 7002))
        listener.listen()
        with target.b.connect(7002, target.a.address("lan")) as near, listener.accept()[0] as far:
            near.sendall(b"hi")
            assert far.recv(2) == b"hi"


def test_machine_is_looked_into(target: Target) -> None:
    target.needs("observe")
    seen = target.a.observe()
    assert seen["hostname"] == "a"
    assert {"processes", "listening", "addresses", "routes"} <= set(seen)


# links


def test_machines_have_addresses_and_names_on_their_network(target: Target) -> None:
    target.needs("links")
    assert target.a.address("lan") == "10.0.0.1"
    assert "10.0.0.2 b" in target.a.read_text("/etc/hosts")
    assert target.a.link("lan").interface == "eth0"


def test_stopped_machine_answers_nothing_and_says_so(target: Target) -> None:
    target.needs("power", "run")
    target.a.stop()
    with pytest.raises(FabricError, match="machine 'a' of layout 'Pair': it is stopped; try: st"):
        target.a.run("true")
    target.a.start()
    assert target.a.run("true").ok
