"""Making a base, whatever its kind."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.errors import HostError
from pytest_carthage.images.bases.tools import check_tools

if TYPE_CHECKING:
    from pytest_carthage.images.bases.values import BaseResult, BaseTools
    from pytest_carthage.model.image import Image

__all__ = ["base_inputs", "make_base"]


async def base_inputs(image: Image) -> dict[str, str]:
    """What a base is made of: paths and references, to hashes of what they are now.

    :raises BuildError: something of it is not there, or cannot be read.
    """
    match image.kind:
        case "debian":
            from pytest_carthage.images.bases import debian

            return await debian.inputs(image)
        case "oci":
            from pytest_carthage.images.bases import oci

            return await oci.inputs(image)
        case "rootfs":
            from pytest_carthage.images.bases import rootfs

            return await rootfs.inputs(image)
        case "containerfile":
            from pytest_carthage.images.bases import containerfile

            return await containerfile.inputs(image)
        case "disk":
            from pytest_carthage.images.bases import disk

            return await disk.inputs(image)


async def make_base(image: Image, tree: Path, tools: BaseTools) -> BaseResult:
    """Fill an empty folder with the files of a base.

    When it fails or is cancelled, no process or mount is left; the folder is the caller's.

    :raises BuildError: it cannot be made, with the tool's last lines.
    :raises HostError: this host lacks what makes it.
    """
    problems = await asyncio.to_thread(check_tools, [image.kind], privileged=tools.privileged)
    if problems:
        raise HostError(problems)
    match image.kind:
        case "debian":
            from pytest_carthage.images.bases import debian

            return await debian.make(image, tree, tools)
        case "oci":
            from pytest_carthage.images.bases import oci

            return await oci.make(image, tree, tools)
        case "rootfs":
            from pytest_carthage.images.bases import rootfs

            return await rootfs.make(image, tree, tools)
        case "containerfile":
            from pytest_carthage.images.bases import containerfile

            return await containerfile.make(image, tree, tools)
        case "disk":
            from pytest_carthage.images.bases import disk

            return await disk.make(image, tree, tools)
