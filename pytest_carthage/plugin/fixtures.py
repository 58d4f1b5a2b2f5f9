"""The door of this session: what the fixtures of declarations do when pytest runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from pytest_carthage.plugin.session import Session

if TYPE_CHECKING:
    from pytest_carthage.images.handle import ImageHandle
    from pytest_carthage.live.layout import Layout
    from pytest_carthage.model.image import Image
    from pytest_carthage.model.stage import Stage

__all__ = ["builder_fixture", "image_fixture", "layout_fixture", "run_stage"]


def layout_fixture(layout: type[Layout], request: pytest.FixtureRequest) -> Iterator[Layout]:
    """Build a layout, yield it live, then tear it down or keep it.

    A host that lacks something skips the test (or fails it, with ``--carthage-strict``); any
    other cause is shown once.
    """
    __tracebackhide__ = True
    environments = Session.of(request.config).environments
    live = environments.build(layout, request)
    yield live.instance
    environments.end(live)


def image_fixture(image: Image, request: pytest.FixtureRequest) -> Iterator[ImageHandle]:
    """Build an image and yield its handle; it fails as a layout does."""
    __tracebackhide__ = True
    handle = Session.of(request.config).images.build(image, request)
    yield handle
    handle.close()


def builder_fixture(
    request: pytest.FixtureRequest,
) -> Iterator[Callable[[Image], ImageHandle]]:
    """Yield a function that builds images; their handles are closed at the end."""
    images = Session.of(request.config).images
    handles: list[ImageHandle] = []

    def build(image: Image) -> ImageHandle:
        __tracebackhide__ = True
        handles.append(images.build(image, request))
        return handles[-1]

    yield build
    for handle in handles:
        handle.close()


def run_stage(stage: Stage, arguments: Mapping[str, Any], request: pytest.FixtureRequest) -> Any:
    """Run a stage with the values of the fixtures that it asks for; gives what it returns.

    :raises pytest_carthage.errors.TimeLimitError: it did not end in time.
    """
    __tracebackhide__ = True
    return Session.of(request.config).stages.run(stage, arguments, request)
