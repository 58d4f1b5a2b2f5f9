"""Log files of machines whose provider writes more into them than was printed."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_carthage.cli import logs, target
from pytest_carthage.providers.podman import PodmanProvider
from pytest_carthage.providers.ssh import SshProvider
from pytest_carthage.state.listing import Listed
from pytest_carthage.testing import FakeProvider

STAMPED = b"2026-01-02T03:04:05.6+00:00 stdout F hello\n2026-01-02T03:04:05.6+00:00 stdout F you\n"


def listed(folder: Path, kind: str) -> Listed:
    return Listed(
        name="shop",
        run="r",
        layout="Shop",
        run_folder=folder,
        folder=folder,
        machines={"web": {"target": kind, "init": None}},
        created_at=0,
        kept=False,
        expires_at=None,
        owner_pid=1,
        owned=True,
        description={},
    )


@pytest.mark.parametrize(
    ("kind", "printed"),
    [("stamping", b"hello\nyou\n"), ("plain", STAMPED), ("not installed", STAMPED)],
    ids=["stamping", "plain", "not installed"],
)
def test_logs_are_shown_as_their_provider_reads_them(
    kind: str,
    printed: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "web.log").write_bytes(STAMPED)
    known = {"stamping": PodmanProvider, "plain": FakeProvider}
    monkeypatch.setattr("pytest_carthage.provider.load_providers", lambda: known)
    monkeypatch.setattr(target, "machine", lambda text: (listed(tmp_path, kind), "web"))
    arguments = argparse.Namespace(machine="shop/web", follow=False, lines=None)
    assert logs.run(arguments) == 0
    assert capfdbinary.readouterr().out == printed


def test_console_of_a_machine_with_systemd_is_shown_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "web.log").write_bytes(b"Kernel panic\n")
    environment = listed(tmp_path, "virtual")
    machines = {"web": {"target": "virtual", "init": "systemd"}}
    environment = replace(environment, machines=machines)
    monkeypatch.setattr(target, "machine", lambda text: (environment, "web"))
    monkeypatch.setattr(logs, "_journal", lambda *of: 7)
    asked = {"machine": "shop/web", "follow": False, "lines": None}
    assert logs.run(argparse.Namespace(**asked, console=False)) == 7
    assert logs.run(argparse.Namespace(**asked, console=True)) == 0
    assert capfdbinary.readouterr().out == b"Kernel panic\n"


def test_log_of_a_host_that_exists_is_printed_by_the_host_since_it_was_reserved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Answering:
        def __enter__(self) -> Answering:
            return self

        def __exit__(self, *exc: object) -> None:
            pass

        def request(self, op: str) -> tuple[dict[str, float], int]:
            assert op == "facts"
            return {"began_s": 1700000000.4}, 0

    asked: list[list[str]] = []
    monkeypatch.setattr("pytest_carthage.provider.load_providers", lambda: {"ssh": SshProvider})
    monkeypatch.setattr(target, "machine", lambda text: (listed(tmp_path, "ssh"), "web"))
    monkeypatch.setattr(target, "connect", lambda *of: Answering())
    monkeypatch.setattr(
        "pytest_carthage.cli.command.run_on_streams", lambda client, argv: asked.append(argv)
    )
    monkeypatch.setattr("pytest_carthage.cli.command.exit_status", lambda ended: 3)
    assert logs.run(argparse.Namespace(machine="shop/web", follow=True, lines=None)) == 3
    assert logs.run(argparse.Namespace(machine="shop/web", follow=False, lines=5)) == 3
    assert [words[4:] for words in asked] == [
        ["1700000000", "all", "--follow"],
        ["1700000000", "5"],
    ]
