"""Hosts that do not let us make namespaces are told so, with the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_carthage.fabric.host import privilege


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """The part of /proc that is looked at, as on a host that allows everything to everybody."""
    for path, text in {
        "self/status": "Name:\tx\nCapEff:\t0000000000000000\n",
        "sys/user/max_user_namespaces": "96365\n",
        "sys/kernel/unprivileged_userns_clone": "1\n",
        "sys/kernel/apparmor_restrict_unprivileged_userns": "0\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def test_open_host_has_no_problem(proc: Path) -> None:
    assert privilege.user_namespace_problems(proc) == []


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [("0000000000000000", False), ("0000000000201000", True), ("0000000000200000", False)],
)
def test_privileged_is_who_may_administer_system_and_network(
    proc: Path, capabilities: str, expected: bool
) -> None:
    (proc / "self/status").write_text(f"CapEff:\t{capabilities}\n")
    assert privilege.is_privileged(proc) is expected


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "sys/user/max_user_namespaces",
            "0",
            "namespaces: the fabric's namespaces cannot be made: this kernel allows no user "
            "namespaces (user.max_user_namespaces is 0); try: run as root (in a container: with "
            "CAP_SYS_ADMIN and CAP_NET_ADMIN), or allow user namespaces: "
            "sysctl -w user.max_user_namespaces=10000",
        ),
        (
            "sys/kernel/unprivileged_userns_clone",
            "0",
            "namespaces: no privileges, and user namespaces are closed "
            "(/proc/sys/kernel/unprivileged_userns_clone is 0); "
            "try: run as root, or: sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        (
            "sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "namespaces: no privileges, and user namespaces are closed "
            "(/proc/sys/kernel/apparmor_restrict_unprivileged_userns is 1); "
            "try: run as root, or: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ],
)
def test_closed_host_is_told_what_closes_it(
    proc: Path, path: str, value: str, message: str
) -> None:
    (proc / path).write_text(value + "\n")
    assert [str(problem) for problem in privilege.user_namespace_problems(proc)] == [message]


def test_kernel_without_user_namespaces_is_a_problem(proc: Path) -> None:
    (proc / "sys/user/max_user_namespaces").unlink()
    assert len(privilege.user_namespace_problems(proc)) == 1
