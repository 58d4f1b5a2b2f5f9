"""Domains are defined, and removed: blocking calls, of one thread."""

from __future__ import annotations

from typing import Any

__all__ = ["define", "remove", "validate"]


def define(libvirt: Any, connection: Any, *, xml: str) -> Any:
    """Have libvirt know a domain, whose XML it looks at first."""
    return connection.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)


def validate(libvirt: Any, connection: Any, *, xml: str) -> None:
    """Have libvirt look at a domain, which it does not know afterwards."""
    define(libvirt, connection, xml=xml).undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)


def remove(libvirt: Any, connection: Any, *, name: str = "", uuid: str = "") -> None:
    """Have a domain be gone, by its name or its UUID; one that is not there is no error."""
    try:
        domain = connection.lookupByUUIDString(uuid) if uuid else connection.lookupByName(name)
        if domain.isActive():
            domain.destroy()
        domain.undefineFlags(
            libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
            | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
            | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
            | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
        )
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise
