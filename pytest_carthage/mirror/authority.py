"""Certificates of a mirror, for machines that ask it for addresses with ``https``.

They are signed by an authority of this host, which machines' apt trusts for that, and nobody else.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_carthage.errors import CarthageError

__all__ = ["Authority"]

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_DAYS = "3650"
_NAMED = "subjectAltName=DNS:{host}\nextendedKeyUsage=serverAuth\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """The authority, in a folder that only its owner can read."""

    folder: Path

    @property
    def certificate(self) -> Path:
        """The file of its certificate."""
        return self.folder / "authority.pem"

    def make(self) -> bool:
        """Make it where it is not there; False: this host has no openssl(1)."""
        if self.certificate.exists():
            return True
        if shutil.which("openssl") is None:
            return False
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            new = Path(folder)
            subject = ["-subj", "/CN=pytest-carthage package mirror"]
            files = ["-keyout", str(new / "key"), "-out", str(new / "authority.pem")]
            _openssl(["req", "-x509", *_KEY, "-days", _DAYS, *subject, *files])
            # of two who make it at the same time the first one stays: a link does not replace
            pair = new / "pair.pem"
            pair.write_bytes((new / "key").read_bytes() + (new / "authority.pem").read_bytes())
            pair.chmod(0o600)
            with contextlib.suppress(FileExistsError):
                os.link(pair, self.folder / "pair.pem")
        self._publish()
        return True

    def _publish(self) -> None:
        """Write the certificate alone, from the pair that has stayed."""
        text = (self.folder / "pair.pem").read_text()
        begin = text.index("-----BEGIN CERTIFICATE-----")
        new = self.folder / f"authority.{os.getpid()}"
        new.write_text(text[begin:])
        new.replace(self.certificate)

    def context(self, host: str) -> ssl.SSLContext:
        """What answers in the place of a host.

        :raises CarthageError: there is no openssl(1), or it failed.
        """
        if not self.make():
            raise CarthageError("this host has no openssl, which signs for addresses with https")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            new = Path(folder)
            (new / "names").write_text(_NAMED.format(host=host))
            request = ["req", "-new", *_KEY, "-subj", "/CN=mirror", "-keyout", str(new / "key")]
            _openssl([*request, "-out", str(new / "request")])
            pair = str(self.folder / "pair.pem")
            signed = ["x509", "-req", "-in", str(new / "request"), "-CA", pair, "-CAkey", pair]
            options = ["-CAcreateserial", "-CAserial", str(new / "serial"), "-days", _DAYS]
            named = ["-extfile", str(new / "names"), "-out", str(new / "certificate")]
            _openssl([*signed, *options, *named])
            context.load_cert_chain(new / "certificate", new / "key")
        return context


def _openssl(argv: Sequence[str]) -> None:
    done = subprocess.run(
        ["openssl", *argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CarthageError(f"openssl {argv[0]} failed: {done.stderr.strip()[-300:]}")
