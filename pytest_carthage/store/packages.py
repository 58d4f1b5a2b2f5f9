"""Where Debian packages that were fetched are kept, for images and machines alike."""

from __future__ import annotations

from pathlib import Path

from pytest_carthage.store.root import Store

__all__ = ["packages_folder"]


def packages_folder() -> Path:
    """The folder, made where there is none.

    :raises BuildError: it cannot be made.
    """
    store = Store()
    store.prepare()
    return store.folder("apt")
