"""``doctor`` of an ordinary user: what root has to give him, and that it is enough."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_carthage.cli import main
from pytest_carthage.fabric.container import delegation, groups
from pytest_carthage.fabric.host import subids
from tests.support.unprivileged import REPOSITORY, account, as_user

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make the account that runs this"),
]

Doctor = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def name() -> Iterator[str]:
    """An account that has no subordinate ids."""
    with account() as name:
        for file, option in zip(subids.FILES, ("--del-subuids", "--del-subgids"), strict=True):
            for line in Path(file).read_text().splitlines():
                whose, first, count = line.split(":")
                if whose == name:
                    ids = f"{first}-{int(first) + int(count) - 1}"
                    subprocess.run(["usermod", option, ids, name], check=True)
        yield name
        groups.remove(delegation.group_of(name))


@pytest.fixture
def asked(name: str) -> Iterator[Doctor]:
    """Runs ``doctor`` as that user, perhaps after root has done what a recipe says."""

    def run(recipe: str = "") -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "pytest_carthage", "doctor", "user"]
        argv = as_user(argv, home=Path(home), user=name)
        if recipe:
            argv = ["sh", "-ec", recipe.removesuffix(f"su {name}") + 'exec "$@"', "sh", *argv]
        env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        return subprocess.run(
            argv, cwd="/", env=env, capture_output=True, text=True, timeout=60, check=False
        )

    with tempfile.TemporaryDirectory(prefix="doctor-") as home:
        yield run


def test_doctor_tells_a_user_what_root_gives_him(
    name: str, asked: Doctor, capfd: pytest.CaptureFixture[str]
) -> None:
    first = asked()
    assert first.returncode == 1, first.stdout + first.stderr
    files = " and ".join(subids.FILES)
    assert f"no 65536 subordinate ids for user {name} in {files}" in first.stdout
    ids = r"\d+-\d+"
    assert re.search(
        rf"root: usermod --add-subuids {ids} --add-subgids {ids} {name}\n", first.stdout
    )
    assert "machines with systemd need a control group" in first.stdout
    assert main(["doctor", "user", "--user", name, "--fix"]) == 0, capfd.readouterr()
    second = asked()
    assert "user: 1 needed without root, root would add 1" in second.stdout, (
        second.stdout + second.stderr
    )
    (recipe,) = re.findall(r"that pytest is started from: (.*)\n", second.stdout)
    assert recipe.endswith(f"su {name}")
    third = asked(recipe)
    assert third.stdout == "user: needs no root\n", third.stdout + third.stderr
    assert third.returncode == 0


def test_user_that_there_is_not_is_told_of(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "user", "--user", "no-such-user"]) == 1
    assert "--user: there is no user 'no-such-user' on this host" in capfd.readouterr().err


def test_doctor_of_a_user_is_content_with_what_he_can_use(name: str) -> None:
    with tempfile.TemporaryDirectory(prefix="doctor-") as home:
        argv = [sys.executable, "-m", "pytest_carthage", "doctor"]
        done = [
            subprocess.run(
                as_user([*argv, *targets], home=Path(home), user=name),
                cwd="/",
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            for targets in ([], ["podman"])
        ]
    plain, named = done
    assert re.search(r"^netns: ready$", plain.stdout, re.MULTILINE), plain.stdout + plain.stderr
    assert re.search(r"^podman: 1 missing, root would add 1$", plain.stdout, re.MULTILINE)
    assert re.search(
        rf"^    root: usermod --add-subuids \S+ .* {name}$", plain.stdout, re.MULTILINE
    )
    assert plain.returncode == 0
    assert named.returncode == 1, "who names a target wants it to be ready"
