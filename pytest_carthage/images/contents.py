"""Whether what is in the files of layers is what it was when it was first read."""

from __future__ import annotations

from pytest_carthage.errors import BuildError
from pytest_carthage.images.exports.oci.blobs import plain_tar, recorded
from pytest_carthage.images.exports.tars.packing import pack
from pytest_carthage.store.layer import Layer

__all__ = ["changed"]


async def changed(layer: Layer) -> str:
    """What is wrong with the contents of a layer; empty: nothing, or it is the first reading.

    The first reading is remembered beside the layer, as that of a bundle or an export is.
    """
    doing = f"layer {layer.meta.title!r}"
    before = recorded(layer, sparse=True)
    try:
        if before is None:
            await plain_tar(layer, doing, sparse=True)
            return ""
        now = await pack(
            [layer.tree], -1, doing=doing, places=[layer.path.parent], is_layer=True, sparse=True
        )
    except BuildError as error:
        return f"its files cannot be read: {error}"
    return "" if now.digest == before.digest else "the contents of its files are others"
