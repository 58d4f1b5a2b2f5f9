"""What an image can be saved as, by the name of the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_carthage.errors import BuildError
from pytest_carthage.images.exports.notes import Note, quiet

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_carthage.store.built import Built

__all__ = ["save"]

_TARBALLS = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.zst")
_DISKS = (".qcow2", ".img", ".raw")


async def save(built: Built, path: Path, *, offline: bool = False, note: Note = quiet) -> None:
    """Save an image as an OCI archive, a tar of its root file system, or a disk to boot.

    :raises BuildError: the name of the file says nothing of these, or it cannot be written.
    """
    if path.name.endswith((".oci.tar", ".oci")):
        from pytest_carthage.images.exports.oci.archive import save_archive

        await save_archive(built, path, note=note)
    elif path.name.endswith(_TARBALLS):
        from pytest_carthage.images.exports import tarball

        await tarball.save_tarball(built, path, note=note)
    elif path.name.endswith(_DISKS):
        from pytest_carthage.images.exports.disks.saving import save_disk

        await save_disk(built, path, offline=offline, note=note)
    else:
        raise BuildError(
            f"{built.who}: {path.name!r} does not say what it is to be; try: "
            "NAME.oci.tar (OCI archive), NAME.tar.gz (root file system), NAME.qcow2 (disk)"
        )
