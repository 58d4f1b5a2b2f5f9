"""Ways into hosts that exist, against a real sshd with PAM, sudo and su: nothing secret is kept."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.layouts import Build
from tests.support.rack import Rack, rack
from tests.support.reserving import NEEDS_RACK, live, refused

pytestmark = NEEDS_RACK

#: passwords of users, which are looked for everywhere
CI, EVE, ROOT = "s3cr3t-of-ci", "s3cr3t-of-eve", "s3cr3t-of-root"
#: lets in by passwords, as PAM asks for them
PAM = "UsePAM yes\nPasswordAuthentication {}\nKbdInteractiveAuthentication {}\n"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    """A host with users, of whom one may everything, and one without being asked."""
    folder = tmp_path_factory.mktemp("rack") / "db1"
    with rack(folder, config=PAM.format("yes", "no")) as made:
        _furnish(made)
        yield made


def _furnish(host: Rack) -> None:
    if why := host.install_sudo():
        pytest.skip(why)
    host.set_password("root", ROOT)
    host.add_user("ci", CI, may="ALL=(ALL) ALL")
    host.add_user("eve", EVE, may="ALL=(ALL) NOPASSWD: ALL")


@pytest.fixture(scope="module")
def bare_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    """The same without Python: each command is a channel of its own, as another user each time."""
    folder = tmp_path_factory.mktemp("rack") / "db1"
    with rack(folder, config=PAM.format("no", "yes")) as made:
        _furnish(made)
        made.hide("python3")
        yield made


@pytest.fixture(autouse=True)
def _passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"CI": CI, "EVE": EVE, "ROOT": ROOT, "WRONG": "s3cr3t-wrong"}.items():
        monkeypatch.setenv(f"RACK_{name}", value)
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


def assert_kept_nowhere() -> None:
    """No file of the run's, and no command line has a password."""
    state = os.environ["CARTHAGE_STATE"]
    assert subprocess.run(["grep", "-rl", "s3cr3t", state], stdout=-1).stdout == b""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes()
            assert b"s3cr3t" not in words or b"grep" in words, words


# logins


@pytest.mark.parametrize("which", ["host", "bare_host"])
def test_password_lets_in_by_its_prompt_and_is_kept_nowhere(
    which: str, request: pytest.FixtureRequest, build: Build
) -> None:
    host: Rack = request.getfixturevalue(which)
    with live(build, host.settings(user="ci", identity=None, password_env="RACK_CI")) as lab:
        db = lab.db
        assert db.run("id -un").stdout == "ci\n"
        assert "s3cr3t" not in db.run("env").stdout
        assert_kept_nowhere()
    text = refused(build, host.settings(user="ci", identity=None, password_env="RACK_WRONG"))
    assert "it lets ci not in by the user's keys and agent and the password in RACK_WRONG" in text


def test_agent_lets_in(
    build: Build, host: Rack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket = str(tmp_path / "agent")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    try:
        while not Path(socket).exists():
            assert agent.poll() is None
        monkeypatch.setenv("SSH_AUTH_SOCK", socket)
        monkeypatch.setenv("HOME", str(tmp_path))
        on = host.settings(user="ci", identity=None)
        assert "it lets ci not in by the user's keys and agent" in refused(build, on)
        subprocess.run(["ssh-add", "-q", host.identity], check=True)
        with live(build, on) as lab:
            db = lab.db
            assert db.run("id -un").stdout == "ci\n"
    finally:
        agent.terminate()
        agent.wait()


def test_key_with_a_passphrase_lets_in(build: Build, host: Rack, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(Path(host.identity).read_bytes())
    key.chmod(0o600)
    change = ["ssh-keygen", "-q", "-p", "-P", "", "-N", CI, "-f", str(key)]
    subprocess.run(change, check=True)
    with live(build, host.settings(identity=key, passphrase_env="RACK_CI")) as lab:
        db = lab.db
        assert db.run("true").ok
        assert_kept_nowhere()
    for on in (
        host.settings(identity=key),
        host.settings(identity=key, passphrase_env="RACK_WRONG"),
    ):
        text = refused(build, on)
        assert f"key {key} cannot be read" in text
        assert "try: passphrase_env=, or a key in the agent" in text


# becoming others


@dataclass(frozen=True)
class Way:
    """A way to another user."""

    name: str
    come_as: str
    values: dict[str, Any]
    user: str = "root"


WAYS: Sequence[Way] = (
    Way("sudo", "ci", {"become": "root", "become_password_env": "RACK_CI"}),
    Way("sudo-unasked", "eve", {"become": "root", "become_password_env": "RACK_EVE"}),
    Way("sudo-none", "eve", {"become": "root"}),
    Way("sudo-of-root", "root", {"become": "ci", "become_password_env": "RACK_ROOT"}, "ci"),
    Way("su", "ci", {"become": "root", "become_method": "su", "become_password_env": "RACK_ROOT"}),
    Way(
        "su-unasked",
        "root",
        {"become": "eve", "become_method": "su", "become_password_env": "RACK_EVE"},
        "eve",
    ),
    Way("su-none", "root", {"become": "eve", "become_method": "su"}, "eve"),
)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
@pytest.mark.parametrize("which", ["host", "bare_host"])
def test_other_user_is_become_and_no_command_reads_the_password(
    which: str, way: Way, request: pytest.FixtureRequest, build: Build
) -> None:
    host: Rack = request.getfixturevalue(which)
    with live(build, host.settings(user=way.come_as, **way.values)) as lab:
        db = lab.db
        assert db.run("id -un").stdout == f"{way.user}\n"
        ended = db.run("cat; echo wrong >&2", input=b"mine")
        assert (ended.stdout, ended.stderr) == ("mine", "wrong\n")
        db.write_text("/tmp/own", "x")
        assert host.run("stat -c %U /tmp/own") == f"{way.user}\n"
        db.run("rm /tmp/own")
        assert "s3cr3t" not in db.run("env; tr '\\0' ' ' < /proc/$PPID/cmdline").stdout
        assert_kept_nowhere()
    assert host.run("ls -A /tmp /run/lock").split() == ["/run/lock:", "/tmp:"]


@pytest.mark.parametrize(
    ("values", "said", "remedy"),
    [
        ({"become_password_env": "RACK_WRONG"}, "sudo makes nobody root", "another password in"),
        ({}, "a password is required", "try: NOPASSWD in its sudoers, or become_password_env="),
        (
            {"become_method": "su", "become_password_env": "RACK_WRONG"},
            "su makes nobody root there: su: Authentication failure",
            "another password in RACK_WRONG",
        ),
        (
            {"become_method": "su"},
            "su: Authentication failure",
            "try: become_password_env= (su asks for the password of root)",
        ),
    ],
)
def test_other_user_who_cannot_be_become_is_told_with_the_remedy(
    build: Build, host: Rack, values: dict[str, Any], said: str, remedy: str
) -> None:
    text = refused(build, host.settings(user="ci", become="root", **values))
    assert said in text
    assert remedy in text
    assert host.run("ls /run/lock") == ""


@pytest.mark.parametrize("way", [WAYS[0], WAYS[1], WAYS[4]], ids=lambda way: way.name)
def test_terminal_of_another_user_does_not_show_the_password(
    build: Build, bare_host: Rack, way: Way
) -> None:
    with live(build, bare_host.settings(user=way.come_as, **way.values)) as lab:
        db = lab.db

        async def ask() -> int:
            argv = ["sh", "-c", "echo I am $(id -un); read line; echo got $line"]
            _, (terminal,) = await db.aio.channel.request("run", argv=argv, tty=True, env={})
            return int(terminal)

        terminal = db.aio.surroundings.portal.call(ask)
        seen = b""
        with contextlib.suppress(OSError):
            while piece := os.read(terminal, 4096):
                if b"I am" not in seen and b"I am" in seen + piece:
                    os.write(terminal, b"typed\n")
                seen += piece
        os.close(terminal)
        assert b"I am root\r\n" in seen
        assert b"got typed" in seen
        assert b"s3cr3t" not in seen
