"""Keys by which a machine's sshd is known: its own, and made on this host, which is faster."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from shutil import which

from pytest_carthage.images.seeds.values import FileInSeed

__all__ = ["host_key_files"]

_KINDS = ("ed25519", "ecdsa")


def host_key_files(comment: str) -> Mapping[str, FileInSeed]:
    """New keys, by their paths; none where this host has no ssh-keygen: the machine makes them."""
    program = which("ssh-keygen")
    if program is None:
        return {}
    files: dict[str, FileInSeed] = {}
    with tempfile.TemporaryDirectory(prefix="carthage-keys-") as folder:
        for kind in _KINDS:
            path = Path(folder) / f"ssh_host_{kind}_key"
            subprocess.run(
                [program, "-q", "-t", kind, "-N", "", "-C", comment, "-f", str(path)],
                stdin=subprocess.DEVNULL,
                check=True,
                capture_output=True,
            )
            files[f"etc/ssh/{path.name}"] = FileInSeed(data=path.read_bytes(), mode=0o600)
            public = path.with_suffix(".pub")
            files[f"etc/ssh/{public.name}"] = FileInSeed(data=public.read_bytes())
    return files
