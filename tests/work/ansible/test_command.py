from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.errors import AnsibleError
from pytest_carthage.work.ansible.command import CommandLine


def line(**options: Any) -> CommandLine:
    return CommandLine.of(options)  # type: ignore[arg-type]


def test_nothing_given_says_nothing(tmp_path: Path) -> None:
    assert line().arguments(tmp_path, "site") == []
    assert line().playbook_arguments() == []
    assert line(tags=None, limit="", forks=None, extra_vars={}) == line()


def test_each_option_is_that_of_ansible(tmp_path: Path) -> None:
    given = line(
        check=True,
        diff=True,
        flush_cache=True,
        become=True,
        verbosity=2,
        forks=3,
        become_user="shop",
        become_method="su",
        user="deploy",
        tags=["a", "b"],
        skip_tags="c",
        start_at_task="Install all",
        force_handlers=True,
    )
    assert given.arguments(tmp_path, "site") == [
        *("--check", "--diff", "--flush-cache", "--become", "-vv"),
        *("--forks=3", "--become-user=shop", "--become-method=su", "--user=deploy"),
    ]
    assert given.playbook_arguments() == [
        *("--tags=a", "--tags=b", "--skip-tags=c"),
        *("--start-at-task=Install all", "--force-handlers"),
    ]


def test_limit_is_one_pattern() -> None:
    assert line().pattern is None
    assert line(limit="web:!db").pattern == "web:!db"
    assert line(limit=["web", "db"]).pattern == "web,db"


def test_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("vars.yml", "vault.txt", "hosts"):
        (tmp_path / name).touch()
    (tmp_path / "library").mkdir()
    given = line(
        extra_vars=["@vars.yml", Path("vars.yml")],
        vault_ids=["prod@vault.txt", "vault.txt"],
        vault_password_file="vault.txt",
        module_path="library",
        inventory_extra="hosts",
    )
    assert given.arguments(tmp_path / "work", "site") == [
        *("--extra-vars", f"@{tmp_path}/vars.yml", "--extra-vars", f"@{tmp_path}/vars.yml"),
        *(f"--vault-id=prod@{tmp_path}/vault.txt", f"--vault-id={tmp_path}/vault.txt"),
        f"--vault-password-file={tmp_path}/vault.txt",
        f"--module-path={tmp_path}/library",
    ]
    assert given.inventory_extra == (tmp_path / "hosts",)


def test_variables_are_in_files_of_the_owner_in_their_order(tmp_path: Path) -> None:
    file = tmp_path / "prod.yml"
    file.touch()
    told = line(extra_vars=[{"a": 1}, f"@{file}", {"a": 2}]).arguments(tmp_path, "site")
    assert told[1::2] == [
        f"@{tmp_path}/site.extra.json",
        f"@{file}",
        f"@{tmp_path}/site.extra-3.json",
    ]
    assert (tmp_path / "site.extra-3.json").read_text() == '{\n  "a": 2\n}'
    assert stat.S_IMODE((tmp_path / "site.extra.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["vault", "become", "connection"])
def test_password_comes_from_the_environment_and_is_in_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "sesame -n $HOME")
    (told,) = line(**{f"{kind}_password_env": "SHOP_PASSWORD"}).arguments(tmp_path, "site")
    option, _, program = told.partition("=")
    assert option == f"--{kind}-password-file"
    assert subprocess.check_output([program], text=True) == "sesame -n $HOME"
    assert "sesame" not in Path(program).read_text()
    assert stat.S_IMODE(Path(program).stat().st_mode) == 0o700


def test_password_may_be_in_the_environment_of_the_run() -> None:
    given = line(become_password_env="P", environment={"P": "sesame"})
    assert given.environment == {"P": "sesame"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tags": 3}, r"tags: 3 is of type int; try: tags=\[\"\.\.\.\"\]"),
        ({"skip_tags": ["a", 3]}, r'skip_tags: 3 is of type int; try: skip_tags="\.\.\."'),
        ({"limit": {"web": 1}}, r"limit: \{'web': 1\} is of type dict; try: limit="),
        ({"check": "yes"}, "check: 'yes' is of type str; try: check=True"),
        ({"forks": 0}, "forks: 0 is no number of machines; try: forks=10"),
        ({"forks": True}, "forks: True is no number of machines; try: forks=10"),
        ({"verbosity": 7}, "verbosity: 7 is no number from 0 to 6"),
        ({"start_at_task": " "}, "start_at_task is empty; try: leave it out"),
        ({"user": 0}, r'user: 0 is of type int; try: user="\.\.\."'),
        (
            {"environment": {"A": 1}},
            r"environment: the value of 'A' is of type int; try: environment=",
        ),
        ({"environment": "A=1"}, r"environment: 'A=1' is of type str; try: environment=\{"),
        ({"extra_vars": "a=1"}, r"extra_vars: 'a=1' is neither variables nor a file of them; try:"),
        ({"extra_vars": 3}, r"extra_vars: 3 is of type int; try: extra_vars=\{"),
        ({"extra_vars": "@/no/vars.yml"}, r"extra_vars: there is no '/no/vars\.yml'"),
        ({"vault_ids": "prod@/no/file"}, "vault_ids: there is no '/no/file'"),
        ({"vault_ids": "dev@prompt"}, r'vault_ids: .* asks, and nobody .* try: vault_ids="dev@a'),
        ({"module_path": ["/no"]}, "module_path: there is no '/no'"),
        (
            {"inventory_extra": 3},
            'inventory_extra: 3 is of type int; try: inventory_extra="a path"',
        ),
        (
            {"become_password_env": "NO_SUCH_VARIABLE"},
            "become_password_env: the environment has no variable 'NO_SUCH_VARIABLE'; try: export "
            r"NO_SUCH_VARIABLE=\.\.\. where the tests are started",
        ),
    ],
)
def test_option_that_is_wrong_is_refused(options: dict[str, Any], message: str) -> None:
    assert "NO_SUCH_VARIABLE" not in os.environ
    with pytest.raises(AnsibleError, match=f"^{message}"):
        line(**options)


def test_password_in_the_place_of_a_name_is_not_repeated() -> None:
    with pytest.raises(AnsibleError, match=r"^vault_password_env: this is no name of an") as caught:
        line(vault_password_env="open sesame")
    assert "sesame" not in str(caught.value)


def test_option_that_there_is_not_is_refused() -> None:
    with pytest.raises(TypeError, match="Ansible has no option 'tagz'"):
        line(tagz="a")
