"""The text of a configuration, as ssh itself reads it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from pytest_carthage.ssh.client_config import Host, client_config, tell_how_to_start
from pytest_carthage.ssh.keys import Keys, make_keys


def read(tmp_path: Path, text: str, host: str) -> dict[str, str]:
    """What ssh would do for a host."""
    if shutil.which("ssh") is None:
        pytest.skip("no ssh on this host; try: apt install openssh-client")
    (tmp_path / "config").write_text(text)
    done = subprocess.run(
        ["ssh", "-G", "-F", "config", host],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


def test_folder_with_blanks_and_percents_is_read_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "100% my own"
    host = Host(names=["web", "shop.web"], machine="web", keys=Keys(folder=folder))
    settings = read(tmp_path, client_config([host]), "shop.web")
    assert settings["user"] == "root"
    assert settings["stricthostkeychecking"] == "true"
    # whether it is shown expanded is a matter of the setting and of ssh's version
    plain = {name: value.replace("%%", "%") for name, value in settings.items()}
    assert plain["identityfile"] == str(folder / "identity")
    assert plain["userknownhostsfile"] == str(folder / "known_hosts")
    assert f"'{folder}' web" in plain["proxycommand"]


def test_other_hosts_are_none_of_ours(tmp_path: Path) -> None:
    host = Host(names=["web"], machine="web", keys=Keys(folder=tmp_path))
    settings = read(tmp_path, client_config([host]), "example.org")
    assert "proxycommand" not in settings
    assert settings["stricthostkeychecking"] != "true"


def test_keys_are_made_once(tmp_path: Path) -> None:
    keys = make_keys(tmp_path)
    before = keys.identity.read_bytes(), keys.host_key.read_bytes()
    assert before[0] != before[1]
    assert make_keys(tmp_path) == keys
    assert (keys.identity.read_bytes(), keys.host_key.read_bytes()) == before


def test_known_hosts_has_each_name_with_the_one_key(tmp_path: Path) -> None:
    keys = make_keys(tmp_path)
    keys.pin(["web", "shop.web"])
    kind, key = keys.host_key.with_suffix(".pub").read_text().split()[:2]
    assert keys.known_hosts.read_text() == f"web {kind} {key}\nshop.web {kind} {key}\n"


def test_way_to_start_is_left_for_who_comes_first(tmp_path: Path) -> None:
    keys = Keys(folder=tmp_path)
    tell_how_to_start(keys, environment="told-shop", supervisor=tmp_path / "supervisor.sock")
    start = json.loads((tmp_path / "porter.json").read_text())
    assert start["environment"] == "told-shop"
    assert start["supervisor"] == str(tmp_path / "supervisor.sock")
    assert "pytest_carthage.ssh.porter:serve" in start["argv"][-1]
