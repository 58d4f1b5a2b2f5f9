"""Events for the tests of what shows them."""

from __future__ import annotations

from pytest_carthage.events import Event, Kind


def event(
    kind: Kind,
    subject: str = "web",
    text: str = "",
    *,
    at_s: float = 100.0,
    duration_s: float | None = None,
) -> Event:
    return Event(
        at_s=at_s,
        environment="bakodi-shop",
        subject=subject,
        kind=kind,
        text=text,
        duration_s=duration_s,
    )
