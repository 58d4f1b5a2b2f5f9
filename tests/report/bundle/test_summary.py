"""The first page of a bundle."""

from __future__ import annotations

from typing import Any

from pytest_carthage.report.bundle.summary import summary_text

MACHINES = {
    "web": {
        "live": True,
        "last_command": "[14:03:01.250] $ curl db: status 7 after 0.100 s",
        "last_lines": ["started", "no database"],
    },
    "db": {"live": False, "last_command": "", "last_lines": []},
}


def summary(**more: Any) -> dict[str, Any]:
    return {
        "test": "t.py::test_buy",
        "phase": "call",
        "ended": "2026-01-01T14:03:02.000+00:00",
        "failed": [">   assert sold", "E   assert False"],
        "meanwhile": [],
        "again": "cd /suite && pytest t.py::test_buy",
        "kept": ["nothing"],
        "environments": {"run-shop": {"layout": "Shop", "machines": MACHINES}},
        **more,
    }


def test_summary_says_what_failed_what_was_last_and_how_to_see_it_again() -> None:
    assert summary_text(summary()) == (
        "t.py::test_buy failed in its call, 2026-01-01T14:03:02.000+00:00\n"
        "\n"
        "what failed:\n"
        "  >   assert sold\n"
        "  E   assert False\n"
        "\n"
        "run-shop (layout Shop):\n"
        "  web:\n"
        "    last command: [14:03:01.250] $ curl db: status 7 after 0.100 s\n"
        "    last lines of its log:\n"
        "      started\n"
        "      no database\n"
        "  db, which was never ready:\n"
        "    last command: none\n"
        "    last lines of its log: none\n"
        "\n"
        "again:\n"
        "  cd /suite && pytest t.py::test_buy\n"
        "\n"
        "kept:\n"
        "  nothing\n"
        "\n"
        "more:\n"
        "  error.txt: what pytest shows\n"
        "  events.txt: what happened, and when\n"
    )


def test_summary_has_what_went_on_and_logs_of_earlier_plays() -> None:
    environment = {"layout": "Shop", "machines": {}, "earlier": ["/out/run-shop.logs/a.log"]}
    text = summary_text(
        summary(
            meanwhile=["a fault"], environments={"run-shop": environment, "x": {"missing": "y"}}
        )
    )
    assert "what went on meanwhile:\n  a fault\n" in text
    assert "  logs of earlier plays:\n    /out/run-shop.logs/a.log\n" in text
    assert "x:\n  y\n" in text


def test_long_failure_is_cut() -> None:
    text = summary_text(summary(failed=[f"E {number}" for number in range(100)]))
    assert "  E 29\n  [70 lines are left out: see error.txt]\n" in text
