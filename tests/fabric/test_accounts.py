"""Looking up users and groups."""

from __future__ import annotations

import pytest

from pytest_carthage.fabric import accounts


def test_find_by_name_and_by_number_agree() -> None:
    root = accounts.find("root")
    assert (root.uid, root.gid, root.home) == (0, 0, "/root")
    assert accounts.find("0") == root


def test_find_number_without_entry_is_taken_as_it_is() -> None:
    assert accounts.find("54321").uid == 54321


def test_find_group_by_name() -> None:
    assert accounts.find("root", "nogroup").gid == 65534
    with pytest.raises(LookupError, match="no group 'ghosts'"):
        accounts.find("root", "ghosts")


def test_find_unknown_lists_who_exists() -> None:
    with pytest.raises(LookupError, match=r"no user 'ghost' in /etc/passwd; there are: root, "):
        accounts.find("ghost")
