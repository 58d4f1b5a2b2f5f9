"""The machines of a live environment as hosts of ssh: no sshd runs in them, none has an address."""
