"""Ways to ssh hosts: what is on the way, and what may be written down."""

from __future__ import annotations

import pytest

from pytest_carthage.channels.ssh.way import Secrets, Way


@pytest.mark.parametrize(
    ("hosts", "user", "host", "port", "nearer"),
    [
        ("bastion", None, "bastion", None, ()),
        ("ci@bastion:2200", "ci", "bastion", 2200, ()),
        ("me@outer,ci@inner:22", "ci", "inner", 22, ("me@outer",)),
        ("a,b,c", None, "c", None, ("a", "b")),
        ("2001:db8::1", None, "2001:db8::1", None, ()),
        ("ci@[2001:db8::1]:2200", "ci", "2001:db8::1", 2200, ()),
        ("[2001:db8::1]", None, "2001:db8::1", None, ()),
    ],
)
def test_hosts_on_the_way_are_read_as_ssh_reads_them(
    hosts: str, user: str | None, host: str, port: int | None, nearer: tuple[str, ...]
) -> None:
    way = Way(host="db1", user="root", config=("/etc/own",), host_key="SHA256:x", become="root")
    hop = way.through(hosts)
    assert (hop.user, hop.host, hop.port, hop.jump) == (user, host, port, nearer)
    assert hop.config == ("/etc/own",)
    assert (hop.host_key, hop.become) == (None, None)  # which are of the host behind it


def test_secrets_are_in_no_text_about_them() -> None:
    way = Way(host="db1", password_env="X", become_password_env="Y")
    secrets = Secrets.of(way, {"X": "s3cr3t", "Y": "s3cr3t"})
    assert secrets.password == "s3cr3t"
    assert "s3cr3t" not in repr(secrets) + repr(way) + str(way.as_record())
