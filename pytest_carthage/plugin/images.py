"""Images that fixtures and stages ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_carthage.errors import CarthageError
from pytest_carthage.events import Work
from pytest_carthage.plugin.causes import Causes, reason
from pytest_carthage.plugin.policies import Policies
from pytest_carthage.plugin.workplace import Workplace

if TYPE_CHECKING:
    import pytest

    from pytest_carthage.images.handle import ImageHandle
    from pytest_carthage.model.image import Image
    from pytest_carthage.store.built import Built

__all__ = ["Images"]


class Images:
    """Builds the images of a session."""

    def __init__(self, workplace: Workplace, causes: Causes, policies: Policies) -> None:
        self._workplace = workplace
        self._causes = causes
        self._policies = policies

    def build(self, image: Image, request: pytest.FixtureRequest) -> ImageHandle:
        """Build an image for a fixture or a stage.

        :raises pytest.fail.Exception: it cannot be built; the message says all.
        :raises pytest.skip.Exception: this host lacks something that it needs.
        """
        __tracebackhide__ = True
        from pytest_carthage.images.handle import ImageHandle

        subject = f"image {image.name!r}"
        work = Work(self._workplace.reporter, f"image {image.name}")
        try:
            for mistake in image.mistakes:
                raise mistake.error(subject)
            with self._workplace.building():
                work.start()
                try:
                    built = self._workplace.portal.call(self._build, image, request, work)
                except BaseException as error:
                    work.failed(reason(error))
                    raise
                work.done()
        except CarthageError as error:
            self._causes.refuse(subject, error)
        return ImageHandle(built, self._workplace.portal, offline=self._policies.offline)

    async def _build(self, image: Image, request: pytest.FixtureRequest, work: Work) -> Built:
        from pytest_carthage.images.builder import ensure

        return await ensure(
            image,
            portal=self._workplace.portal,
            note=lambda subject, text: work.note(text),
            policy=await self._policies.of_image(image, request),
        )
