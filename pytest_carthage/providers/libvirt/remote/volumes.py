"""Files of one machine in a storage pool of another host: blocking calls, of one thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from pytest_carthage.errors import CarthageError
from pytest_carthage.providers.libvirt.remote.streams import send_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["choose_pool", "remove", "upload"]

#: kinds of pools whose volumes are files of any format
_OF_FILES = ("dir", "fs", "netfs")


def choose_pool(libvirt: Any, connection: Any, name: str | None) -> str:
    """Name of the pool that volumes are made in: the one that is asked for, or ``default``.

    :raises CarthageError: there is none that can be used, with those that there are.
    """
    pools = connection.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE)
    kinds = {pool.name(): ElementTree.fromstring(pool.XMLDesc()).get("type", "") for pool in pools}
    usable = sorted(pool for pool, kind in kinds.items() if kind in _OF_FILES)
    wanted = name or "default"
    if wanted in usable:
        return wanted
    if name is None and len(usable) == 1:
        return str(usable[0])
    seen = f"it is of kind {kinds[wanted]!r}, which has no files" if wanted in kinds else "none"
    raise CarthageError(
        f"no active storage pool {wanted!r} for its disks ({seen}); those with files: "
        f"{', '.join(usable) or 'none'}; try: Vm(pool=...) with one of them, or there: "
        "virsh pool-define-as default dir --target /var/lib/libvirt/images; "
        "virsh pool-start default"
    )


def upload(libvirt: Any, connection: Any, pool: str, name: str, path: Path) -> str:
    """Make a volume of a file's bytes; returns its path there.

    One of this name that is there is not touched.

    :raises OSError: the file cannot be read.
    """
    size = path.stat().st_size
    volume = ElementTree.Element("volume")
    ElementTree.SubElement(volume, "name").text = name
    for tag, count in (("capacity", size), ("allocation", 0)):
        ElementTree.SubElement(volume, tag, unit="bytes").text = str(count)
    # its bytes are its own affair
    ElementTree.SubElement(ElementTree.SubElement(volume, "target"), "format", type="raw")
    holds = connection.storagePoolLookupByName(pool)
    made = holds.createXML(ElementTree.tostring(volume, encoding="unicode"), 0)
    stream = connection.newStream(0)
    made.upload(stream, 0, size, 0)
    send_file(stream, path)
    return str(made.path())


def remove(libvirt: Any, connection: Any, pool: str, names: Iterable[str]) -> None:
    """Have volumes be gone; those that are not there are no error."""
    gone = (libvirt.VIR_ERR_NO_STORAGE_VOL, libvirt.VIR_ERR_NO_STORAGE_POOL)
    for name in names:
        try:
            connection.storagePoolLookupByName(pool).storageVolLookupByName(name).delete(0)
        except libvirt.libvirtError as error:
            if error.get_error_code() not in gone:
                raise
