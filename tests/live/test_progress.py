"""What is told of machines while they come to life, and of what they wait for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pytest_carthage import Image, Layout, Machine, Network
from pytest_carthage.errors import BuildError, CreationError
from pytest_carthage.events import Recorder
from pytest_carthage.images import builder
from tests.live.conftest import Build

pytestmark = pytest.mark.real


class Shop(Layout):
    lan = Network("10.0.0.0/24")
    debian = Image.debian("bookworm")
    web = Machine(debian, links={"eth0": lan.at(".1")})
    db = Machine(links={"eth0": lan.at(".2")})


def test_waiting_for_an_image_is_told_of_the_image_alone(
    build: Build, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ensure(image: Image, *, note: Any, **more: Any) -> None:
        for text in ("waits for another build of it", "waits for another build of it: unpacking"):
            note(image.name, text)
            await asyncio.sleep(0.05)
        raise BuildError(f"image {image.name!r}: the other build has failed")

    monkeypatch.setattr(builder, "ensure", ensure)
    with pytest.raises(CreationError, match="the other build has failed"):
        build(Shop)
    events = [event for event in recorder.events if event.subject in ("image debian", "web")]
    assert [(event.subject, event.kind, event.text) for event in events] == [
        ("image debian", "start", "waits for another build of it"),
        ("image debian", "note", "waits for another build of it: unpacking"),
        ("image debian", "failed", "image 'debian': the other build has failed"),
        ("web", "failed", "image 'debian': the other build has failed"),
    ]
    image, web = events[2:]
    assert image.duration_s is not None
    assert image.duration_s >= 0.1
    assert web.duration_s is None, "nobody has worked on it"
