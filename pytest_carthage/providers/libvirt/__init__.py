"""The ``libvirt`` target: machines that are virtual machines, of a libvirtd in the fabric."""

from pytest_carthage.providers.libvirt.provider import LibvirtProvider

__all__ = ["LibvirtProvider"]
