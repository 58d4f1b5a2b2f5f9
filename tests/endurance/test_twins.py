"""Twins, two pairs of them: more are tried by hand and every night."""

from __future__ import annotations

import socket

import pytest

from tests.endurance.twins import COPIES, KINDS, MARK, Ear, Report, judge, main, try_pairs
from tests.support.host import netns_lacks


@pytest.mark.real
@pytest.mark.timeout(120)
def test_no_packet_of_twins_is_astray() -> None:
    if problems := netns_lacks():
        pytest.skip("; ".join(map(str, problems)))
    report = try_pairs(2, seconds=1.0)
    assert report.astray == [], "python -m tests.endurance.twins --pairs 20"
    assert report.pairs == 2
    assert report.is_good, report
    assert report.frames > 1000


def test_packet_that_is_astray_would_be_told() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ear = Ear(ours)
    with theirs:
        for mark in (b"A/udp;", b"B/arp;", b"A/udp;"):
            theirs.send(b"header" + MARK + mark + b"rest")
        theirs.send(b"nobody's")
        while ear.frames < 4:
            pass
    report = Report()
    judge(report, "A", ear)
    assert report.marked == {"A/udp": 2}
    assert report.astray == ["1 x arp of copy B in copy A"]
    judge(report, "", ear)
    assert report.astray[1:] == ["2 x udp of copy A in the host", "1 x arp of copy B in the host"]
    ear.stop()


def test_report_is_good_only_if_everything_was_sent_and_looked_at(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Report(pairs=1)
    monkeypatch.setattr("tests.endurance.twins.try_pairs", lambda count, seconds: report)
    assert main([]) == 1, "nothing was sent"
    report.marked.update(f"{copy}/{kind}" for copy in COPIES for kind in KINDS)
    assert main(["--pairs", "1"]) == 0
    assert "1 pairs in" in capsys.readouterr().out
    report.unseen = 1
    assert main([]) == 1
    report.unseen, report.astray = 0, ["1 x arp of copy B in copy A"]
    assert main([]) == 1
    assert "\n  1 x arp of copy B in copy A" in capsys.readouterr().out
