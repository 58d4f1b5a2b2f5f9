"""Machines of a libvirt on another host, which a user names: nothing there is touched but ours."""
