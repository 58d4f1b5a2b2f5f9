"""The way out for a task with the host's network: proxies and certificates of the host.

Behind a company's proxy every connection is answered with a certificate of the company's own, which
the host trusts. So does a build, as long as it lasts: nothing of that is in the image.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_carthage.images.workshop import Workshop

__all__ = ["certificates", "environment", "furnish"]

#: on a tmpfs, and in no image
_BUNDLE = "/run/carthage-certificates.pem"
#: where distributions keep what they trust
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
#: by which variables OpenSSL, curl, Python's requests and pip, Node and git are told
_TOLD = (
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
)
_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")


def certificates() -> Path | None:
    """The file of the certificates that this host trusts."""
    named = os.environ.get("SSL_CERT_FILE")
    paths = [Path(path) for path in (*([named] if named else []), *_BUNDLES)]
    return next((path for path in paths if path.is_file()), None)


def environment() -> Mapping[str, str]:
    """Variables of whatever runs with the host's network in an image that is built."""
    proxies = [*_PROXIES, *(name.upper() for name in _PROXIES)]
    told = {name: os.environ[name] for name in proxies if name in os.environ}
    if certificates() is not None:
        told |= dict.fromkeys(_TOLD, _BUNDLE)
    return told


async def furnish(fs: Workshop) -> None:
    """Bring the certificates to where the variables say that they are."""
    path = certificates()
    if path is not None:
        await fs.bring(path, _BUNDLE, mode=0o644)
