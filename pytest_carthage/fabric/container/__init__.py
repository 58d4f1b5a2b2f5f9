"""System containers: machines with an image that are root in a user namespace of their own.

Inside, root has all capabilities, and outside none: what belongs to the machine (its mounts, its
network, its names) is its own to change, and what belongs to the host refuses it. :mod:`.users` is
that namespace, :mod:`.groups` the control group that the machine is given, :mod:`.mounts` its file
system, :mod:`.birth` the processes, and :mod:`.console` what an init tells.
"""
