"""Machines by the real ssh, scp, sftp and rsync of this host."""

from __future__ import annotations

import hashlib
import os
import pty
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ssh.conftest import Hosts

pytestmark = pytest.mark.real

#: much more than pipes and windows hold
BLOB = os.urandom(1 << 16) * 64


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# commands


def test_command_runs_in_the_machine_as_root_in_its_home(hosts: Hosts) -> None:
    done = hosts.ssh("web", "hostname; id -un; pwd; echo $0-$SHELL")
    assert done.stderr == ""
    assert done.stdout.splitlines()[:2] == ["web", "root"]
    assert done.returncode == 0


def test_environment_before_the_machine_is_a_name_too(hosts: Hosts) -> None:
    assert hosts.ssh("told-pair.desk", "hostname").stdout == "desk\n"


def test_status_and_errors_of_a_command_are_its_own(hosts: Hosts) -> None:
    done = hosts.ssh("web", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)


def test_command_that_a_signal_ends_is_told_as_by_sshd(hosts: Hosts) -> None:
    assert hosts.ssh("web", "kill -9 $$").returncode == 255


def test_output_of_what_stays_behind_is_waited_for_as_by_sshd(hosts: Hosts) -> None:
    done = hosts.ssh("web", "(sleep 0.3; echo late) & echo early")
    assert done.stdout == "early\nlate\n"


def test_much_goes_both_ways_unharmed(hosts: Hosts) -> None:
    done = hosts.ssh("web", "tee /dev/stderr | sha256sum", input=BLOB)
    assert done.stdout == f"{digest(BLOB)}  -\n"
    assert digest(done.stderr.encode(errors="surrogateescape")) == digest(BLOB)


def test_input_that_nobody_reads_does_no_harm(hosts: Hosts) -> None:
    assert hosts.ssh("web", "exec true", input=BLOB).returncode == 0


def test_variables_are_passed_on_but_those_of_the_account(hosts: Hosts) -> None:
    done = hosts.ssh("-o", 'SetEnv=COLOUR="light blue" SHELL=/bin/false', "web", "echo $COLOUR")
    assert done.stdout == "light blue\n"


def test_other_user_has_his_own_rights(hosts: Hosts) -> None:
    # the account of nobody has no shell that runs anything
    done = hosts.ssh("-l", "nobody", "web", "id")
    assert "not available" in done.stdout
    assert done.returncode == 1


def test_user_whom_the_machine_does_not_have_is_told(hosts: Hosts) -> None:
    done = hosts.ssh("-l", "carol", "web", "id")
    assert "no user 'carol' in /etc/passwd; there are: root, " in done.stderr
    assert "Permission denied" in done.stderr
    assert done.returncode == 255


def test_command_ends_with_its_connection(hosts: Hosts) -> None:
    ssh = subprocess.Popen(
        ["ssh", "-F", str(hosts.config), "web", "echo begun; exec sleep 4711"],
        stdout=subprocess.PIPE,
        env=hosts.env,
    )
    assert ssh.stdout is not None
    with ssh.stdout as out:
        assert out.readline() == b"begun\n"
        ssh.send_signal(signal.SIGTERM)
        ssh.wait(10)
    deadline = time.monotonic() + 20
    while hosts.ssh("web", "pgrep -f '^sleep 4711'").stdout:
        assert time.monotonic() < deadline


def test_what_was_left_behind_outlives_its_connection(hosts: Hosts) -> None:
    hosts.ssh("web", "nohup sleep 4712 >/dev/null 2>&1 &")
    assert hosts.ssh("web", "pkill -f '^sleep 4712'").returncode == 0


# terminals


def test_terminal_has_the_size_of_ours_and_takes_what_is_typed(hosts: Hosts) -> None:
    ours, theirs = pty.openpty()
    argv = ["ssh", "-F", str(hosts.config), "-tt", "web"]
    ssh = subprocess.Popen(
        argv,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**hosts.env, "TERM": "dumb"},
        start_new_session=True,
    )
    os.close(theirs)
    seen = b""
    try:
        os.write(ours, b"stty rows 31 cols 97; stty size; tty; echo $TERM; exit 5\n")
        while True:
            try:
                data = os.read(ours, 4096)
            except OSError:
                break
            seen += data
            if not data:
                break
        assert ssh.wait(20) == 5
    finally:
        ssh.kill()
        ssh.wait()
        os.close(ours)
    for words in (b"31 97", b"/dev/pts/", b"dumb"):
        assert words in seen


def test_end_of_input_is_no_end_of_a_terminal(hosts: Hosts) -> None:
    done = hosts.ssh("-tt", "web", input=b"echo $((6 * 7)); exit\n")
    assert "42" in done.stdout
    assert done.returncode == 0


# files


def test_scp_copies_both_ways(hosts: Hosts) -> None:
    (hosts.folder / "blob").write_bytes(BLOB)
    for words in (["blob", "web:/tmp/blob"], ["web:/tmp/blob", "back"]):
        done = hosts.run(["scp", "-q", "-F", str(hosts.config), *words])
        assert (done.returncode, done.stderr) == (0, "")
    assert (hosts.folder / "back").read_bytes() == BLOB


def test_sftp_works_in_the_machine(hosts: Hosts) -> None:
    (hosts.folder / "small").write_text("small\n")
    script = b"mkdir /tmp/sftp\nput small /tmp/sftp/new\nchmod 640 /tmp/sftp/new\nls -l /tmp/sftp\n"
    done = hosts.run(["sftp", "-q", "-F", str(hosts.config), "-b", "-", "web"], input=script)
    assert done.returncode == 0, done.stderr
    assert "-rw-r-----" in done.stdout
    assert hosts.ssh("web", "cat /tmp/sftp/new").stdout == "small\n"
    assert not Path("/tmp/sftp/new").exists()


def test_rsync_sends_what_has_changed_and_removes_what_is_gone(hosts: Hosts) -> None:
    if shutil.which("rsync") is None:
        pytest.skip("no rsync on this host; try: apt install rsync")
    tree = hosts.folder / "tree"
    (tree / "below").mkdir(parents=True)
    (tree / "below/x").write_text("1\n")
    rsync = ["rsync", "-e", f"ssh -F {hosts.config}", "--archive", "--delete", "--itemize-changes"]
    assert "below/x" in hosts.run([*rsync, "tree/", "web:/tmp/tree/"]).stdout
    (tree / "below/x").unlink()
    done = hosts.run([*rsync, "tree/", "web:/tmp/tree/"])
    assert (done.returncode, done.stderr) == (0, "")
    assert "*deleting   below/x" in done.stdout
    assert hosts.ssh("web", "find /tmp/tree").stdout == "/tmp/tree\n/tmp/tree/below\n"


# connections


def test_forwarded_port_leads_into_the_machines_network(hosts: Hosts) -> None:
    for host in ("10.0.0.1", "web"):  # the machine looks names up
        done = hosts.ssh("-W", f"{host}:80", "desk", input=b"GET / HTTP/1.0\r\n\r\n")
        assert done.stdout.startswith("HTTP/1.0 200"), done.stderr
        assert done.returncode == 0


@pytest.mark.parametrize(
    ("where", "words"), [("10.0.0.1:81", "Connection refused"), ("nowhere:80", "No such file")]
)
def test_forwarded_port_where_nobody_is_says_so(hosts: Hosts, where: str, words: str) -> None:
    done = hosts.ssh("-W", where, "desk")
    assert words in done.stderr
    assert done.returncode == 255


def test_ports_are_not_opened_for_the_machine_and_keys_stay_here(hosts: Hosts) -> None:
    done = hosts.ssh("-A", "-R", "18099:localhost:1", "desk", "echo agent=$SSH_AUTH_SOCK")
    assert "remote port forwarding failed" in done.stderr
    assert done.stdout == "agent=\n"


@pytest.fixture
def shared(hosts: Hosts) -> Iterator[list[str]]:
    """Options by which connections are shared."""
    path = hosts.folder / "shared"
    yield ["-o", "ControlMaster=auto", "-o", f"ControlPath={path}", "-o", "ControlPersist=60"]
    hosts.ssh("-o", f"ControlPath={path}", "-O", "exit", "web")


def test_connection_is_shared(hosts: Hosts, shared: list[str]) -> None:
    # the first one leaves its standard error open in the background
    first = ["ssh", "-F", str(hosts.config), *shared, "web", "true"]
    subprocess.run(first, env=hosts.env, stderr=subprocess.DEVNULL, timeout=60, check=True)
    assert hosts.ssh(*shared, "-O", "check", "web").stderr.startswith("Master running")
    assert hosts.ssh(*shared, "web", "hostname").stdout == "web\n"


def test_connection_is_not_shared_any_more_when_the_machine_was_stopped(
    hosts: Hosts, shared: list[str]
) -> None:
    first = ["ssh", "-F", str(hosts.config), *shared, "web", "true"]
    subprocess.run(first, env=hosts.env, stderr=subprocess.DEVNULL, timeout=60, check=True)
    stop_and_start(hosts, "web")
    subprocess.run(first, env=hosts.env, stderr=subprocess.DEVNULL, timeout=60, check=False)
    assert hosts.ssh(*shared, "web", "hostname").stdout == "web\n"


def stop_and_start(hosts: Hosts, machine: str) -> None:
    from pytest_carthage.fabric.wire import client

    with client.connect(str(hosts.environment / "fabric.sock")) as fabric:
        fabric.request("stop", machine=machine)
        fabric.request("start", machine=machine)


# who comes in


def test_keys_are_the_owners_alone(hosts: Hosts) -> None:
    folder = hosts.environment / "ssh"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in ("identity", "host_key"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600


def test_other_key_opens_nothing(hosts: Hosts) -> None:
    key = hosts.folder / "other"
    hosts.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)])
    options = ["-o", "IdentityFile=none", "-i", str(key)]
    config = hosts.folder / "without_key"
    lines = hosts.config.read_text().splitlines(keepends=True)
    config.write_text("".join(line for line in lines if "IdentityFile" not in line))
    done = hosts.run(["ssh", "-F", str(config), *options, "web", "id"])
    assert "Permission denied (publickey)" in done.stderr
    assert done.returncode == 255


def test_other_host_key_is_refused(hosts: Hosts) -> None:
    known = hosts.environment / "ssh/known_hosts"
    before = known.read_text()
    hosts.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "impostor"])
    public = (hosts.folder / "impostor.pub").read_text()
    known.write_text(f"web {public}")
    try:
        done = hosts.ssh("web", "id")
    finally:
        known.write_text(before)
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in done.stderr
    assert done.returncode == 255


# when something is gone


def test_porter_that_was_killed_is_started_again(hosts: Hosts) -> None:
    before = porter(hosts)
    os.kill(before, signal.SIGKILL)
    done = hosts.ssh("web", "hostname")
    if done.returncode:  # it had come while the dead one still listened
        done = hosts.ssh("web", "hostname")
    assert done.stdout == "web\n", done.stderr
    assert porter(hosts) != before


def porter(hosts: Hosts) -> int:
    """Process id of who answers for these machines."""
    assert hosts.ssh("web", "true").returncode == 0
    (pid,) = porters(hosts.environment / "ssh")
    return pid


def porters(folder: Path) -> list[int]:
    """Process ids of those who answer by the keys in a folder."""
    pids = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                command = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if b"ssh.porter:serve" in command and os.fsencode(folder) in command:
                pids.append(int(process.name))
    return pids


def test_machine_that_is_stopped_is_told(hosts: Hosts) -> None:
    from pytest_carthage.fabric.wire import client

    with client.connect(str(hosts.environment / "fabric.sock")) as fabric:
        fabric.request("stop", machine="desk")
        done = hosts.ssh("desk", "id")
        fabric.request("start", machine="desk")
    assert "machine 'desk' of environment 'told-pair': " in done.stderr
    assert "try: pytest-carthage logs told-pair/desk" in done.stderr
    assert done.returncode == 255
    assert hosts.ssh("desk", "hostname").stdout == "desk\n"


def test_names_that_several_environments_have_are_left_out(hosts: Hosts) -> None:
    with hosts.built("other"):
        done = hosts.ours("ssh-config")
        assert done.returncode == 0, done.stderr
        lines = [line for line in done.stdout.splitlines() if line.startswith("Host ")]
        assert lines == [
            "Host told-pair.web",
            "Host told-pair.desk",
            "Host other-pair.web",
            "Host other-pair.desk",
        ]
    assert hosts.ours("ssh-config", "--output", str(hosts.config)).returncode == 0
    assert hosts.ssh("web", "hostname").stdout == "web\n"


def test_file_that_cannot_be_written_is_told(hosts: Hosts) -> None:
    done = hosts.ours("ssh-config", "--output", "no/such/folder")
    assert done.returncode == 1
    assert "cannot write no/such/folder: No such file or directory" in done.stderr


def test_porter_ends_with_its_environment_and_its_file_says_so(hosts: Hosts) -> None:
    with hosts.built("brief") as name:
        config = hosts.folder / "brief"
        hosts.ours("ssh-config", name, "--output", str(config))
        argv = ["ssh", "-F", str(config), f"{name}.web", "hostname"]
        assert hosts.run(argv).stdout == "web\n"
        (pid,) = porters(hosts.folder / f"state/runs/brief/envs/{name}/ssh")
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
    done = hosts.run(argv)
    assert "no environment in" in done.stderr
    assert "see `pytest-carthage ls`" in done.stderr
    assert done.returncode == 255
