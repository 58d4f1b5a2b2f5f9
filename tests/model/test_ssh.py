"""Hosts that exist, as an author declares them."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_carthage import Here, Machine, Ssh


def wrong(**values: Any) -> list[tuple[str, str]]:
    return [(one.what, one.remedy) for one in Machine(on=Ssh("db1.lab", **values)).mistakes]


def test_host_with_everything_is_no_mistake() -> None:
    on = Ssh(
        "db1.lab",
        user="ci",
        port=2222,
        jump=["ci@bastion.lab", "inner:2222"],
        config="ssh_config",
        identity="~/.ssh/rack",
        host_key="SHA256:abc",
        become="root",
        password_env="RACK_PASSWORD",
        passphrase_env="RACK_PASSPHRASE",
        become_password_env="RACK_SUDO",
        on_return=["true", Here("true")],
        lease_s=60,
        wait_s=600,
    )
    assert Machine(on=on).mistakes == ()
    assert on.hops == ("ci@bastion.lab", "inner:2222")
    assert Ssh("db1.lab", jump="bastion").hops == ("bastion",)
    assert Ssh("db1.lab", on_return=Here("true")).steps == (Here("true"),)


@pytest.mark.parametrize(
    ("values", "what", "remedy"),
    [
        ({"user": "a b"}, "ssh user 'a b' is no name of a user", 'user="root"'),
        ({"become": 0}, "ssh become 0 is no name of a user", 'become="root"'),
        ({"port": 0}, "ssh port 0 is not from 1 to 65535", "port=22"),
        ({"jump": "-oProxyCommand=x"}, "is no list of hosts", 'jump="me@bastion.lab"'),
        ({"proxy_command": " "}, "ssh proxy_command ' ' is no command", "proxy_command="),
        (
            {"proxy_command": "nc %h %p", "jump": "bastion"},
            "ssh has both jump= and proxy_command=",
            "one of them",
        ),
        ({"config": 3}, "ssh config 3 is no text and no path", 'config="ssh_config"'),
        ({"identity": ""}, "ssh identity '' is no text and no path", "identity="),
        (
            {"become_method": "pfexec"},
            "ssh become_method 'pfexec' is unknown",
            'become_method="sudo"',
        ),
        ({"become_password_env": "X"}, "is for become= by sudo or su", 'become="root"'),
        ({"on_return": 3}, "ssh on_return 3 is no list of commands", "on_return="),
        ({"on_return": [""]}, "is no list of commands", "on_return="),
        ({"lease_s": 1}, "ssh lease_s 1 is not from 10 to 604800", "lease_s=300"),
        ({"lease_s": float("nan")}, "ssh lease_s nan is not from", "lease_s=300"),
        ({"wait_s": -1}, "ssh wait_s -1 is no time", "wait_s=600"),
    ],
)
def test_wrong_value_is_told_with_what_to_write(
    values: dict[str, Any], what: str, remedy: str
) -> None:
    ((said, instead),) = wrong(**values)
    assert what in said
    assert remedy in instead


def test_password_that_stands_where_a_variables_name_belongs_is_not_shown() -> None:
    ((said, instead),) = wrong(password_env="s3cr3t!")
    assert "s3cr3t" not in said + instead
    assert said == "ssh password_env is no name of an environment variable"
