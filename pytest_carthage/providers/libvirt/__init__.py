"""The ``libvirt`` target: virtual machines on the fabric's networks."""
