"""What messages name of environments that are gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_carthage.report.bundle.whereabouts import Whereabouts

LOGS = Path("/state/runs/r/envs/r-shop/logs")
PART = {
    "files": ["ansible-site.log", "web.dhcp.log", "fabric.log", "supervisor.log"],
    "earlier": ["/out/r-shop.logs/ansible-base.log"],
    "machines": {
        "web": {"files": ["log.txt"]},
        "web2": {"files": ["log.txt"]},
        "db": {"files": []},
    },
}


@pytest.fixture
def whereabouts() -> Whereabouts:
    made = Whereabouts()
    made.add("r-shop", LOGS, Path("/out/test"), PART)
    return made


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f"log: {LOGS}/web.log; try", "log: /out/test/r-shop/web/log.txt; try"),
        (f"log: {LOGS}/web2.log", "log: /out/test/r-shop/web2/log.txt"),
        (f"log: {LOGS}/db.log", f"log: {LOGS}/db.log"),
        (f"{LOGS}/ansible-site.log", "/out/test/r-shop/ansible-site.log"),
        (f"{LOGS}/web.dhcp.log", "/out/test/r-shop/web.dhcp.log"),
        (f"{LOGS}/ansible-base.log", "/out/r-shop.logs/ansible-base.log"),
        ("/state/runs/r/envs/r-shop/fabric.log", "/out/test/r-shop/fabric.log"),
        ("/state/runs/r/supervisor.log", "/out/test/r-shop/supervisor.log"),
        ("try: pytest-carthage logs web", "try: less /out/test/r-shop/web/log.txt"),
        ("pytest-carthage logs r-shop/web2, x", "less /out/test/r-shop/web2/log.txt, x"),
        ("pytest-carthage logs db", "pytest --keep-on-fail, and then pytest-carthage logs db"),
        (
            "pytest-carthage exec web -- journalctl -u x",
            "pytest --keep-on-fail, and then pytest-carthage exec web -- journalctl -u x",
        ),
        (
            "in pytest-carthage shell",
            "in pytest --keep-on-fail, and then pytest-carthage shell",
        ),
        ("pytest-carthage shell other/web", "pytest-carthage shell other/web"),
        ("pytest-carthage shell till", "pytest-carthage shell till"),
        ("pytest-carthage images shell base", "pytest-carthage images shell base"),
        ("pytest-carthage doctor", "pytest-carthage doctor"),
    ],
)
def test_what_a_message_names_is_what_stays(
    whereabouts: Whereabouts, before: str, after: str
) -> None:
    assert whereabouts(before) == after


def test_what_stays_anyhow_is_named_as_it_is() -> None:
    text = f"log: {LOGS}/web.log; try: pytest-carthage logs web"
    assert Whereabouts()(text) == text


def test_environment_that_was_not_looked_at_has_nothing_else() -> None:
    made = Whereabouts()
    made.add("r-shop", LOGS, Path("/out/test"), {"missing": "it took too long"})
    assert made(f"log: {LOGS}/web.log") == f"log: {LOGS}/web.log"
