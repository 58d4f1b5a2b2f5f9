"""Where another host's libvirt is: a URI, see https://libvirt.org/uri.html."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

__all__ = ["LibvirtUri"]

_SOCKET = "/run/libvirt/libvirt-sock"
_KNOWN = ("command", "keyfile", "known_hosts", "socket")
#: nobody is asked for a password, and no key of a host is taken on trust
_SSH = (
    "-T",
    "-oBatchMode=yes",
    "-oStrictHostKeyChecking=yes",
    "-oConnectTimeout=15",
    "-oServerAliveInterval=15",
    "-oControlMaster=no",
    "-oControlPath=none",
    "-oExitOnForwardFailure=yes",
    "-oStreamLocalBindMask=0177",
    "-oStreamLocalBindUnlink=yes",
)


@dataclass(frozen=True, slots=True)
class LibvirtUri:
    """A libvirt's."""

    uri: str
    #: the command that reaches its host, by ssh(1); empty: it is this host
    ssh: tuple[str, ...]
    #: path of its socket, on its host
    socket: str

    @classmethod
    def of(cls, uri: str) -> LibvirtUri:
        """Read a URI.

        :raises ValueError: it is one that cannot be used, with what can.
        """
        parts = urlsplit(uri)
        scheme, _, transport = parts.scheme.partition("+")
        example = "qemu+ssh://root@big.lab/system"
        if scheme != "qemu" or transport not in ("", "ssh", "unix"):
            raise ValueError(f"no libvirt is reached by {parts.scheme}: here; try: {example}")
        if parts.path != "/system":
            raise ValueError(
                f"a machine needs the libvirt of a whole host, and not {parts.path}; try: {example}"
            )
        parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
        for name in parameters:
            if name not in _KNOWN:
                raise ValueError(f"{name}= is not known; try: one of {', '.join(_KNOWN)}")
        if (parts.hostname is None) == (transport == "ssh"):
            where = "without a host" if transport == "ssh" else "with a host"
            raise ValueError(f"{parts.scheme}: makes no sense {where}; try: {example}")
        ssh: list[str] = []
        if parts.hostname is not None:
            ssh += [parameters.get("command", "ssh"), *_SSH]
            if "keyfile" in parameters:
                ssh += ["-i", parameters["keyfile"]]
            if "known_hosts" in parameters:
                ssh.append(f"-oUserKnownHostsFile={parameters['known_hosts']}")
            if parts.port is not None:
                ssh += ["-p", str(parts.port)]
            if parts.username is not None:
                ssh += ["-l", unquote(parts.username)]
            if parts.hostname.startswith("-"):
                raise ValueError(f"{parts.hostname!r} is no name of a host; try: {example}")
            ssh.append(parts.hostname)
        return cls(uri, tuple(ssh), parameters.get("socket", _SOCKET))
