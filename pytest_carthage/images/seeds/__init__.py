"""Seeds: what tells one of many machines that stand on the same disk who it is.

Sources: systemd.network(5), systemd.link(5), systemd.netdev(5), interfaces(5), machine-id(5),
sshd(8), ip(8).
"""
