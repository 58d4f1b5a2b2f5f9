"""What a disk boots with: a kernel, and the small initrd that takes it to the root file system.

Sources: the kernel's documents initrd.rst and initramfs-buffer-format.rst; modules.dep(5).
"""
