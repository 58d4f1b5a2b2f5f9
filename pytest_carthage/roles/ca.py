"""A certificate authority for a layout, and certificates that it signs."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.errors import CommandError, CreationError
from pytest_carthage.model.role import Role
from pytest_carthage.model.task import machine_task
from pytest_carthage.roles.named import known_names

if TYPE_CHECKING:
    from pytest_carthage.roles.served import Served

__all__ = ["Certificate", "CertificateAuthority"]

#: where the authority is, in its machine
_AUTHORITY_CERTIFICATE = "/etc/ssl/certs/carthage-ca.pem"
#: others than root may read their own files there, as not in /etc/ssl/private
_FOLDER = "/etc/ssl/carthage"
_AUTHORITY_KEY = f"{_FOLDER}/ca.key"
_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
_ANCHOR = "/usr/local/share/ca-certificates/carthage-ca.crt"


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateAuthority(Role):
    """A certificate authority that all machines of the layout trust, those added later, too.

    It is made anew for each live layout, and its key never leaves the machine but for the layout's
    private folder. Trust is put into what the system's programs read: by
    ``update-ca-certificates`` where there is one, or into ``/etc/ssl/certs/ca-certificates.crt``.
    For programs that want to be told, its certificate is ``/etc/ssl/certs/carthage-ca.pem`` on all
    of them. A :class:`Certificate` of another machine is signed by it.
    """

    packages = ("ca-certificates", "openssl")
    programs = {"openssl": "openssl"}
    offers = ("ca",)

    #: what its certificate says of who it is
    name: str = "Test CA"
    #: how long its certificates hold
    days: int = 30

    def __post_init__(self) -> None:
        if not 1 <= self.days <= 10000:
            raise ValueError(
                f"CertificateAuthority: days={self.days} is not from 1 to 10000; try: days=30"
            )
        if not 0 < len(self.name) <= 64 or set(self.name) & set("\n\r\\"):
            raise ValueError(
                f"CertificateAuthority: name={self.name!r} is not 1 to 64 characters of one line; "
                'try: name="Test CA"'
            )

    @machine_task("make the certificate authority")
    async def make(self, machine: Served) -> None:
        """Make its key and its certificate, and have the machine itself trust it."""
        await machine.run(
            _MAKE_AUTHORITY.format(
                folder=_FOLDER,
                key=_AUTHORITY_KEY,
                certificate=_AUTHORITY_CERTIFICATE,
                days=self.days,
            ),
            input=_AUTHORITY.format(name=self.name),
        )
        folder = _folder(machine)
        folder.mkdir(0o700, exist_ok=True)
        hashed = await machine.run(
            ["openssl", "x509", "-noout", "-subject_hash", "-in", _AUTHORITY_CERTIFICATE]
        )
        (folder / "hash").write_text(hashed.stdout.strip())
        await machine.get(_AUTHORITY_CERTIFICATE, folder / "ca.pem")
        (folder / "ca.key").touch(mode=0o600)
        await machine.get(_AUTHORITY_KEY, folder / "ca.key")
        await _trust(machine, folder)

    async def welcome(self, own: Served, newcomer: Served) -> None:
        """Have another machine trust it."""
        await _trust(newcomer, _folder(own))

    async def refresh(self, machine: Served) -> None:
        """Put it back where a start has thrown it away, as where the root is the host's."""
        if not await machine.exists(_AUTHORITY_KEY):
            folder = _folder(machine)
            await machine.put(folder / "ca.key", _AUTHORITY_KEY, mode=0o600)
            await _trust(machine, folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate(Role):
    """A key and a certificate of the layout's :class:`CertificateAuthority` for the machine.

    The certificate holds for all names and addresses by which the layout knows the machine. They
    are ``/etc/ssl/carthage/<name>.pem`` and ``/etc/ssl/carthage/<name>.key``; nothing needs to be
    installed in the machine for it.
    """

    needs = ("ca",)

    #: what the files are called
    name: str = "server"
    #: further names and addresses that it holds for
    names: tuple[str, ...] = ()
    #: who owns the key, and alone may read it
    user: str = "root"

    def __post_init__(self) -> None:
        if self.name in ("", "ca") or set(self.name) & set("/\0\n"):
            raise ValueError(
                f"Certificate: name={self.name!r} is not a name for its files; try: name='server'"
            )

    @property
    def certificate_path(self) -> str:
        """Where the certificate is, in the machine."""
        return f"{_FOLDER}/{self.name}.pem"

    @property
    def key_path(self) -> str:
        """Where its private key is, in the machine."""
        return f"{_FOLDER}/{self.name}.key"

    @machine_task("get a certificate from the layout's authority")
    async def obtain(self, machine: Served) -> None:
        """Have the authority make them, and take them over."""
        authority, days = _authority(machine)
        names = list(dict.fromkeys([*known_names(machine), *self.names]))
        made = await authority.run(
            _MAKE_CERTIFICATE.format(
                ca=_AUTHORITY_CERTIFICATE,
                key=_AUTHORITY_KEY,
                days=days,
                serial=secrets.token_hex(16),
            ),
            input=_CERTIFICATE.format(
                name=machine.planned.hostname[:64], names=",".join(map(_alternative, names))
            ),
            secret=True,  # it prints the key
        )
        key, _, certificate = made.stdout.partition("\0")
        if not await machine.exists(_FOLDER):
            await machine.run(["mkdir", "-p", "-m", "755", _FOLDER])
        for path, text, mode in (
            (self.certificate_path, certificate, 0o644),
            (self.key_path, key, 0o600),
        ):
            await machine.write_text(path, text, mode=mode, user=self.user)


def _authority(machine: Served) -> tuple[Served, int]:
    """The machine that signs, and how long what it signs holds."""
    surroundings = machine.surroundings
    for name, planned in surroundings.plan.machines.items():
        for role in planned.roles:
            if isinstance(role, CertificateAuthority):
                with contextlib.suppress(KeyError):
                    return machine if name == machine.name else surroundings.handle(name), role.days
    raise CreationError(
        f"{machine!r}: the layout's certificate authority is not there yet; "
        "try: the authority's machine without after= to this one"
    )


def _folder(machine: Served) -> Path:
    return machine.surroundings.folder / "ca"


async def _trust(machine: Served, folder: Path) -> None:
    certificate = folder / "ca.pem"
    if await machine.exists("/usr/sbin/update-ca-certificates"):
        # a user namespace may not write there
        with contextlib.suppress(OSError, CommandError):
            await machine.put(certificate, _ANCHOR, mode=0o644)
            await machine.run(["/usr/sbin/update-ca-certificates"])
            return
    text = certificate.read_text()
    hashed = (folder / "hash").read_text()
    for path in (_AUTHORITY_CERTIFICATE, f"/etc/ssl/certs/{hashed}.0"):
        await machine.put(certificate, path, mode=0o644)
    bundle = await machine.read_text(_BUNDLE) if await machine.exists(_BUNDLE) else ""
    if text not in bundle:
        await machine.write_text(_BUNDLE, bundle + text)


def _alternative(name: str) -> str:
    """As a subjectAltName, see x509v3_config(5)."""
    try:
        return f"IP:{ip_address(name)}"
    except ValueError:
        return f"DNS:{name}"


# x509v3_config(5); RFC 5280 has strict clients want the key identifiers and uses
_AUTHORITY = """\
[req]
distinguished_name = subject
x509_extensions = extensions
prompt = no
utf8 = yes
string_mask = utf8only
[subject]
commonName = {name}
[extensions]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""

_CERTIFICATE = """\
[req]
distinguished_name = subject
prompt = no
[subject]
commonName = {name}
[extensions]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}
"""

_IN_A_FOLDER = """\
set -e
umask 077
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/config"
new="openssl req -config $folder/config -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
"""

_MAKE_AUTHORITY = (
    _IN_A_FOLDER
    + """\
$new -x509 -sha256 -days {days} -keyout "$folder/key" -out "$folder/pem" 2> "$folder/told" ||
    {{ cat "$folder/told" >&2; exit 1; }}
mkdir -p -m 755 /etc/ssl/certs {folder}
cat "$folder/key" > {key}
rm -f {certificate}
umask 022
cat "$folder/pem" > {certificate}
"""
)

_MAKE_CERTIFICATE = (
    _IN_A_FOLDER
    + """\
{{
    $new -keyout "$folder/key" -out "$folder/request"
    openssl x509 -req -sha256 -in "$folder/request" -CA {ca} -CAkey {key} -days {days} \\
        -set_serial 0x{serial} -extfile "$folder/config" -extensions extensions -out "$folder/pem"
}} 2> "$folder/told" || {{ cat "$folder/told" >&2; exit 1; }}
cat "$folder/key"
printf '\\0'
cat "$folder/pem"
"""
)
