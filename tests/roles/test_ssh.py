"""The SSH server, by the distribution's own client."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest

from pytest_carthage import Layout, LayoutError, Machine, Network
from pytest_carthage.live.machines.machine import MachineHandle
from pytest_carthage.planning import make_plan
from pytest_carthage.roles import SshServer, ssh_key
from tests.providers.conftest import DEBIAN, Build


class Remote(Layout):
    """`db` has the role in its image and no systemd, `web` has both the other way round."""

    lan = Network("10.0.0.0/24")
    client = Machine(
        DEBIAN.with_packages("openssh-client", "sshpass"), links={"eth0": lan.at(".1")}
    )
    db = Machine(
        DEBIAN.with_(SshServer(port=2222)), links={"eth0": lan.at(".2", dns_name="sql.example")}
    )
    web = Machine(DEBIAN, init="systemd", links={"eth0": lan.at(".3")}, roles=[SshServer()])
    twin = Machine(DEBIAN.with_(SshServer(port=2222)), links={"eth0": lan.at(".4")})


def test_file_system_of_the_host_is_refused() -> None:
    class Bare(Layout):
        web = Machine(roles=[SshServer()])

    with pytest.raises(LayoutError, match=r"role SshServer has a task of the file system"):
        make_plan(Bare)


@pytest.mark.parametrize("line", ["nonsense", "-----BEGIN OPENSSH PRIVATE KEY-----", "a b\nc d"])
def test_line_that_is_no_public_key_is_refused(line: str) -> None:
    with pytest.raises(LayoutError, match=r"is no line of authorized_keys\(5\).*; try: Path\("):
        SshServer(authorized_keys=(line,))


def test_layout_without_a_server_has_no_key(tmp_path: Path) -> None:
    class Standin:
        folder = tmp_path

    with pytest.raises(LookupError, match=r"has no SSH key: no machine has the role SshServer\(\)"):
        ssh_key(cast(Any, Standin()))


def ssh(client: MachineHandle, *words: str, check: bool = True) -> str:
    done = client.run(
        ["ssh", "-o", "ConnectTimeout=10", "-o", "StrictHostKeyChecking=yes", *words], check=check
    )
    return done.stdout + done.stderr


@pytest.mark.real
@pytest.mark.timeout(400)
def test_client_logs_in_with_the_key_and_knows_the_hosts(
    build_containers: Build, tmp_path: Path
) -> None:
    live = build_containers(Remote)
    client, db, web = (live[name] for name in ("client", "db", "web"))
    key = ssh_key(cast(Any, live))
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    refused = ssh(client, "-o", "BatchMode=yes", "web", "true", check=False)
    assert "Permission denied (publickey)" in refused
    client.run("mkdir -p -m 700 /root/.ssh")
    client.put(key, "/root/.ssh/id_ed25519", mode=0o600)
    # by every name that it has, and no host key is taken unseen
    assert ssh(client, "web", "hostname") == "web\n"
    assert ssh(client, "10.0.0.3", "systemctl", "is-active", "ssh") == "active\n"
    for name in ("db", "sql.example", "10.0.0.2"):
        assert ssh(client, "-p", "2222", name, "hostname") == "db\n"
    assert ssh(client, "-p", "2222", "twin", "hostname") == "twin\n"
    client.run(["ssh-keygen", "-F", "[twin]:2222", "-f", "/etc/ssh/ssh_known_hosts"])
    # each has host keys of its own, though two have one image, where there are none
    keys = {one.read_text("/etc/ssh/ssh_host_ed25519_key.pub") for one in (db, web, live["twin"])}
    assert len(keys) == 3
    # passwords do not help
    web.run("echo root:secret | chpasswd; echo PermitRootLogin yes >> /etc/ssh/sshd_config")
    web.run("systemctl restart ssh")
    assert ssh(client, "web", "id -un") == "root\n"
    client.run("rm /root/.ssh/id_ed25519")
    tried = client.run("sshpass -p secret ssh web true", check=False)
    assert not tried.ok
    assert "Permission denied (publickey)" in tried.stderr
    # from the host, too
    with web.forward(22) as port:
        done = subprocess.run(
            [
                *("ssh", "-F", "none", "-i", key, "-p", str(port), "-o", "BatchMode=yes"),
                *("-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no"),
                *("-o", "IdentitiesOnly=yes", "root@127.0.0.1", "hostname"),
            ],
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert done.stdout == "web\n", done.stderr


@pytest.mark.real
@pytest.mark.timeout(400)
def test_given_key_lets_its_user_in(build_containers: Build, tmp_path: Path) -> None:
    pair = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", pair], check=True)
    public = pair.with_suffix(".pub").read_text()

    class One(Layout):
        lan = Network("10.0.0.0/24")
        web = Machine(
            DEBIAN,
            links={"eth0": lan.at(".3")},
            roles=[SshServer(authorized_keys=(public,), user="games")],
        )

    live: Layout = build_containers(One)
    web = live["web"]
    web.put(pair, "/root/id", mode=0o600)
    web.run("usermod -s /bin/sh games")
    assert ssh(web, "-i", "/root/id", "games@web", "id -un") == "games\n"
    denied = ssh(web, "-i", "/root/id", "-oBatchMode=yes", "web", "true", check=False)
    assert "Permission denied (publickey)" in denied
    with pytest.raises(LookupError):
        ssh_key(cast(Any, live))
