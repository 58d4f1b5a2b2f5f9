"""An image in a registry."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from pytest_carthage.errors import BuildError
from pytest_carthage.images.exports.notes import Note, quiet
from pytest_carthage.images.exports.oci.blobs import digits, gzipped
from pytest_carthage.images.exports.oci.description import configuration, describe
from pytest_carthage.images.exports.places import room
from pytest_carthage.images.exports.tools import completed, require

if TYPE_CHECKING:
    from pytest_carthage.store.built import Built

__all__ = ["push"]


async def push(built: Built, destination: str, *, note: Note = quiet) -> None:
    """Push the image; layers that the registry has are not sent again.

    TLS and passwords are skopeo's own business, see containers-registries.conf(5) and
    skopeo-login(1). A registry on the loopback interface may be without TLS.

    :param destination: as in ``"docker://registry.example:5000/name:tag"``.
    :raises BuildError: the registry cannot be reached, or refuses it.
    :raises HostError: this host has no skopeo.
    """
    doing = f"{built.who}: pushed to {destination}"
    host, _, rest = destination.removeprefix("docker://").partition("/")
    if not destination.startswith("docker://") or not rest:
        raise BuildError(
            f"{doing}: that is no registry's address; try: docker://HOST:PORT/NAME:TAG"
        )
    require("skopeo")
    async with room(built.store, doing) as folder:
        blobs = [await gzipped(layer, doing, note) for layer in built.layers]
        config = configuration(built, [blob.plain for blob in blobs])
        describe(built, config, blobs, compress=True).write(folder)
        for blob in blobs:
            assert blob.path is not None
            link = folder / "blobs" / "sha256" / digits(blob.digest)
            if not link.is_symlink():
                link.symlink_to(blob.path)
        note(f"pushing to {host}")
        # podman heeds a healthcheck in Docker's format only
        form = [] if built.config.healthcheck is None else ["--format", "v2s2"]
        tls = ["--dest-tls-verify=false"] if _is_loopback(host) else []
        await completed(
            [
                *("skopeo", "copy", "--quiet", "--insecure-policy", *form, *tls),
                f"oci:{folder}",
                destination,
            ],
            doing=doing,
            places=[folder],
            advice=lambda said: _advice(said, host),
        )


def _is_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _advice(said: str, host: str) -> str:
    text = said.lower()
    if "unauthorized" in text or "denied" in text or "authentication required" in text:
        return f"try: skopeo login {host}"
    if "x509" in text:
        return f"try: put the registry's CA in /etc/containers/certs.d/{host}/ca.crt"
    if "http response to https" in text:
        return f"try: a registry with TLS, or {host} as insecure in /etc/containers/registries.conf"
    if "connection refused" in text or "no such host" in text or "timeout" in text:
        return f"try: look whether {host} is the registry's address and it is up"
    return ""
