"""Layouts and stages as fixtures: where pytest meets realisation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from pytest_carthage.plugin.session import Session

if TYPE_CHECKING:
    from pytest_carthage.images.handle import ImageHandle
    from pytest_carthage.model.image import Image
    from pytest_carthage.model.layout import Layout
    from pytest_carthage.model.stage import Stage

__all__ = ["builder_fixture", "image_fixture", "layout_fixture", "run_stage"]


def layout_fixture(cls: type[Layout], request: pytest.FixtureRequest) -> Iterator[Layout]:
    """Build a layout, yield it live, then tear it down or keep it.

    The body of every layout's fixture. What is wrong is told as a person needs it: a host that
    lacks something skips (or fails, with ``--carthage-strict``), any other cause is shown once.
    """
    __tracebackhide__ = True
    session = Session.of(request.config)
    live = session.build(cls, request)
    yield live.instance
    session.end(live)


def image_fixture(image: Image, request: pytest.FixtureRequest) -> Iterator[ImageHandle]:
    """Build an image and give its handle.

    The body of every image's fixture; failures are told as those of layouts are.
    """
    __tracebackhide__ = True
    session = Session.of(request.config)
    handle = session.build_image(image, request)
    yield handle
    handle.close()


def builder_fixture(
    request: pytest.FixtureRequest,
) -> Iterator[Callable[[Image], ImageHandle]]:
    """Give a function that builds images; their handles are closed at the end."""
    session = Session.of(request.config)
    handles: list[ImageHandle] = []

    def build(image: Image) -> ImageHandle:
        __tracebackhide__ = True
        handles.append(session.build_image(image, request))
        return handles[-1]

    yield build
    for handle in handles:
        handle.close()


def run_stage(stage: Stage, arguments: Mapping[str, Any], request: pytest.FixtureRequest) -> Any:
    """Run a stage with the fixtures that it asks for; returns what it returns.

    :raises pytest_carthage.errors.TimeLimitError: it did not end in time.
    """
    __tracebackhide__ = True
    return Session.of(request.config).run_stage(stage, arguments)
