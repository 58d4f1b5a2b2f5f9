from __future__ import annotations

from typing import Any

import pytest

from pytest_carthage.work.ansible.rsh import command_of
from pytest_carthage.work.ansible.synchronize import _machine, _other_host


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-l", "shop", "web", "rsync", "--server", "."], ("shop", "rsync --server .")),
        (["web", "rsync", "--server", r"a\ b"], (None, r"rsync --server a\ b")),
        (["-4", "web", "sudo -u x rsync", "."], (None, "sudo -u x rsync .")),
    ],
)
def test_words_for_ssh_are_a_user_and_a_command(
    words: list[str], expected: tuple[str | None, str]
) -> None:
    assert command_of(words) == expected


@pytest.mark.parametrize(
    ("src", "dest", "expected"),
    [
        ("/srv/a", "web:/srv", "web"),
        ("root@10.0.0.1:/srv", "/srv", "10.0.0.1"),
        ("/a", "[root@fd00::1]:/srv", "fd00::1"),
        ("/a", "root@[fd00::1]:/srv", "fd00::1"),
        ("/a", "/b", None),
        ("/a:b", "/c", None),
        ("rsync://web/a", "/b", None),
        ("web::module", "/b", None),
    ],
)
def test_other_end_of_rsync_is_a_host(src: str, dest: str, expected: str | None) -> None:
    assert _other_host({"src": src, "dest": dest}) == expected


@pytest.mark.parametrize("own", [["--rsh=ssh"], "-essh", ["--delete", "-e ssh"]])
def test_remote_shell_of_a_play_is_left_alone(own: Any) -> None:
    assert _other_host({"src": "/a", "dest": "web:/b", "rsync_opts": own}) is None


def test_host_stands_for_a_machine_of_the_layout_or_for_none() -> None:
    variables = {
        "ansible_carthage_machine": "web",
        "ansible_host": "web.example",
        "ansible_carthage_names": {"10.0.0.2": "db"},
    }
    assert _machine("web.example", variables) == "web"
    assert _machine("10.0.0.2", variables) == "db"
    assert _machine("backup.example", variables) is None
    assert _machine("localhost", {}) is None
