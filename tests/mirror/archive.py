"""An archive that a test has made and signed, as of a derivative of Debian."""

from __future__ import annotations

import hashlib
import lzma
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

__all__ = ["SignedArchive"]


class SignedArchive:
    """An archive of one suite in a folder.

    :param home: exists; a folder with a short path for the keys that sign it.
    """

    def __init__(self, root: Path, suite: str, home: Path) -> None:
        self.root = root
        self.suite = suite
        #: file of the key that signs it
        self.keyring = home / f"{suite}.asc"
        self._home = home
        (root / "pool").mkdir(parents=True)
        home.chmod(0o700)
        options = ["--passphrase", "", "--quick-gen-key", "Nobody <nobody@localhost>"]
        self._gpg(*options, "ed25519", "sign", "never")
        self.keyring.write_bytes(self._gpg("--armor", "--export"))

    def take(self, files: Iterable[Path]) -> None:
        """Have packages that are there."""
        for file in files:
            shutil.copyfile(file, self.root / "pool" / file.name.replace("%3a", "-"))

    def make(self, name: str, version: str) -> None:
        """Have a package of its own, with a program that says its version."""
        source = self.root.parent / name
        program = source / "usr" / "bin" / name
        program.parent.mkdir(parents=True)
        program.write_text(f"#!/bin/sh\necho {name} {version}\n")
        program.chmod(0o755)
        (source / "DEBIAN").mkdir()
        (source / "DEBIAN" / "control").write_text(
            f"Package: {name}\nVersion: {version}\nArchitecture: all\n"
            "Maintainer: Nobody <nobody@localhost>\nDescription: for a test\n"
        )
        target = self.root / "pool" / f"{name}_{version}_all.deb"
        build = ["dpkg-deb", "--root-owner-group", "--build", str(source), str(target)]
        subprocess.run(build, check=True, capture_output=True)

    def publish(self) -> None:
        """Write its lists, and sign them."""
        rows = []
        for path in sorted((self.root / "pool").glob("*.deb")):
            told = subprocess.run(["dpkg-deb", "-f", str(path)], check=True, capture_output=True)
            data = path.read_bytes()
            rows.append(
                f"{told.stdout.decode()}Filename: pool/{path.name}\nSize: {len(data)}\n"
                f"SHA256: {hashlib.sha256(data).hexdigest()}\n"
            )
        packages = "\n".join(rows).encode()
        place = self.root / "dists" / self.suite / "main" / "binary-amd64"
        place.mkdir(parents=True)
        (place / "Packages.xz").write_bytes(lzma.compress(packages))
        sums = "".join(
            f" {hashlib.sha256(data).hexdigest()} {len(data)} main/binary-amd64/{name}\n"
            for name, data in (
                ("Packages", packages),
                ("Packages.xz", (place / "Packages.xz").read_bytes()),
            )
        )
        release = (
            f"Origin: Test\nSuite: {self.suite}\nCodename: {self.suite}\n"
            "Architectures: amd64\nComponents: main\n"
            f"Date: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n{sums}"
        )
        signed = self._gpg("--clearsign", input=release.encode())
        (self.root / "dists" / self.suite / "InRelease").write_bytes(signed)

    def close(self) -> None:
        """End the process that keeps its keys."""
        end = ["gpgconf", "--kill", "gpg-agent"]
        subprocess.run(end, env=self._env, check=True, capture_output=True)

    @property
    def _env(self) -> dict[str, str]:
        return {**os.environ, "GNUPGHOME": str(self._home)}

    def _gpg(self, *argv: str, input: bytes = b"") -> bytes:
        done = subprocess.run(
            ["gpg", "--batch", "--yes", "--pinentry-mode", "loopback", *argv],
            env=self._env,
            input=input,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout
