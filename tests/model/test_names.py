"""What names of interfaces, packages and groups may be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_carthage.model.names import (
    group_mistake,
    host_mistake,
    interface_mistake,
    inventory_mistake,
    inventory_name,
    is_package,
    is_user,
    member_mistake,
)

ODD = "is one that programs take for an option or a pattern"
REFUSED = "is one that the kernel refuses or keeps for itself"


@pytest.mark.parametrize(
    ("name", "mistake"),
    [
        ("eth0", None),
        ("a", None),
        ("a" * 15, None),
        ("a" * 16, "has 16 bytes, the kernel takes at most 15"),
        ("ä" * 8, "has 16 bytes, the kernel takes at most 15"),
        ("ä", REFUSED),
        ("", "is no name"),
        (None, "is no name"),
        (7, "is no name"),
        (b"eth0", "is no name"),
        ("lo", REFUSED),
        ("all", REFUSED),
        ("default", REFUSED),
        (".", REFUSED),
        ("..", REFUSED),
        ("...", ODD),
        ("a b", REFUSED),
        ("a\n", REFUSED),
        ("a/b", REFUSED),
        ("a:b", REFUSED),
        ("a%b", REFUSED),
        ("eth0.10", None),
        ("-eth0", ODD),
        ("eth+", ODD),
        ("eth*", ODD),
        ('a"b', ODD),
        ("a$b", ODD),
        ("veth0@x", None),
        ("swp1-2_a.b", None),
        ("lo0", None),
    ],
)
def test_interface_name_is_one_that_the_kernel_takes(name: object, mistake: str | None) -> None:
    assert interface_mistake(name) == mistake


@given(name=st.text(max_size=20))
def test_any_name_that_is_taken_fits_the_kernel(name: str) -> None:
    if interface_mistake(name) is None:
        assert 0 < len(name.encode()) <= 15
        assert not set(name) & set("/:% \n\t\0")


@pytest.mark.parametrize(
    "name",
    ["git", "g++", "libc6:i386", "python3.11", "0ad", "nginx=1.22.1-9+deb12u1", "a+b:amd64=1:2~3"],
)
def test_package_is_one_that_apt_could_be_asked_for(name: str) -> None:
    assert is_package(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a",
        "Git",
        "-y",
        "git curl",
        "git\n",
        "git=",
        "git:",
        "git/sid",
        "gît",
        "a;b",
        None,
        7,
        b"git",
    ],
)
def test_package_is_none_that_apt_would_take_for_something_else(name: object) -> None:
    assert not is_package(name)


@pytest.mark.parametrize("name", ["web", "_web", "Web_1", "a"])
def test_group_is_a_name_as_python_has(name: str) -> None:
    assert group_mistake(name) is None


@pytest.mark.parametrize("name", ["", "1web", "web-1", "web 1", "wéb", "web\n", None, 7])
def test_group_is_nothing_else(name: object) -> None:
    assert group_mistake(name) == "is not a name that Ansible takes"


@pytest.mark.parametrize(
    ("name", "mistake"),
    [
        ("ungrouped", "is what Ansible calls the hosts of no group"),
        ("localhost", "is what Ansible calls the computer that it runs on"),
        ("all", None),  # everything is in it anyway
        ("hosts", None),
        ("vars", None),
    ],
)
def test_group_of_ansible_s_own_is_refused_where_it_means_something_else(
    name: str, mistake: str | None
) -> None:
    assert group_mistake(name) == mistake


HERE = "means this computer itself, wherever it is asked for (RFC 6761)"
NUMBER = "ends as an address does, and programs take it for one"


@pytest.mark.parametrize(
    ("name", "mistake"),
    [
        ("localhost", HERE),
        ("LocalHost", HERE),
        ("localhost.localdomain", HERE),
        ("web.localhost", HERE),
        ("ip6-localhost", HERE),
        ("localhost2", None),
        ("7", NUMBER),
        ("web.7", NUMBER),
        ("10.0.0.5", NUMBER),
        ("0x7f", NUMBER),
        ("3com", None),
        ("0x7f-web", None),
        ("all", None),
        ("xn--bcher-kva", None),
        ("XN--BCHER-KVA.example", None),
        ("xn--a", "has 'xn--a', which is no word in Punycode (RFC 3492)"),
        ("www.xn--0.example", "has 'xn--0', which is no word in Punycode (RFC 3492)"),
    ],
)
def test_name_of_a_host_leads_to_it_and_nowhere_else(name: str, mistake: str | None) -> None:
    assert host_mistake(name) == mistake


@pytest.mark.parametrize(
    ("name", "mistake"),
    [
        ("web1.prod.example", None),
        ("10.0.0.5", None),
        ("_web", None),
        ("all", "is what Ansible calls all hosts"),
        ("ungrouped", "is what Ansible calls the hosts of no group"),
        ("localhost", "is what Ansible calls the computer that it runs on"),
        ("127.0.0.1", "is what Ansible calls the computer that it runs on"),
        *(
            (odd, "is not a name that Ansible takes")
            for odd in ("", "-web", "a b", "web[1:3]", "a,b", "!web", "{{ x }}", "wéb", "a/b")
        ),
    ],
)
def test_name_in_the_inventory_is_no_pattern_and_none_of_ansible_s_own(
    name: str, mistake: str | None
) -> None:
    assert inventory_mistake(name) == mistake


@pytest.mark.parametrize("name", ["root", "www-data", "_apt", "user$", "1000", "Jane.Doe"])
def test_user_is_a_name_or_a_number(name: str) -> None:
    assert is_user(name)


@pytest.mark.parametrize("name", ["", "a b", "-x", "a:b", "../x", "a\n", "é", None, 0])
def test_user_is_nothing_that_passwd_could_not_hold(name: object) -> None:
    assert not is_user(name)


@pytest.mark.parametrize("name", ["lan", "größe", "lan-1", "a.b", "3com", "_"])
def test_member_has_a_name_that_files_may_have(name: str) -> None:
    assert member_mistake(name) is None


@pytest.mark.parametrize("name", ["", "a/b", "..", "a..b", "../x", "a b", "-x", "a-", "\x1b[2J"])
def test_member_has_no_name_that_leads_elsewhere(name: str) -> None:
    assert member_mistake(name) == "has other characters than letters, digits and inner _ . -"


def test_member_s_name_is_no_longer_than_a_file_s_may_be() -> None:
    assert member_mistake("x" * 101) == (
        "has more than 100 bytes, and names of files have it in them"
    )


def test_machine_with_a_word_of_ansibles_is_called_otherwise_by_it() -> None:
    assert inventory_name("all") == "all-machine"
    assert inventory_name("ungrouped") == "ungrouped-machine"
    assert inventory_name("all", "web1.prod.example") == "web1.prod.example"
    assert inventory_name("web") == "web"
