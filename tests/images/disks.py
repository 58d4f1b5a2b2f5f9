"""What tests of disks share."""

from __future__ import annotations

import asyncio

from pytest_carthage.images.exports.boot.finding import find_kernel
from pytest_carthage.images.exports.notes import quiet
from pytest_carthage.store.root import Store


def lend_kernel(store: Store) -> None:
    """Have the kernel that is fetched once into the host's own store."""
    own = Store()
    own.prepare()
    asyncio.run(find_kernel((), own, doing="a test", note=quiet))
    store.folder("kernels").symlink_to(own.folder("kernels"))
