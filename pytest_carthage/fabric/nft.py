"""Loading rulesets of nftables (nft(8)), all of one or nothing of it."""

from __future__ import annotations

import errno
import os
import subprocess

from pytest_carthage.fabric.wire.steps import Steps, child_end

_ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
_LIMIT_S = 30.0


class Loading:
    """A ruleset on its way into the network namespace in which this was made."""

    def __init__(self, rules: str) -> None:
        """Start nft.

        :raises OSError: with EOPNOTSUPP: there is none.
        """
        self._output = os.memfd_create("nft-output", os.MFD_CLOEXEC)
        rules_fd = os.memfd_create("nft-rules", os.MFD_CLOEXEC)
        try:
            with open(rules_fd, "wb", closefd=False) as file:
                file.write(rules.encode())
            os.lseek(rules_fd, 0, os.SEEK_SET)
            process = subprocess.Popen(
                ["nft", "-f", "-"],
                stdin=rules_fd,
                stdout=self._output,
                stderr=self._output,
                env=_ENV,
            )
        except BaseException as error:
            os.close(self._output)
            if isinstance(error, FileNotFoundError):
                text = "there is no nft (Debian package nftables)"
                raise OSError(errno.EOPNOTSUPP, text) from None
            raise
        finally:
            os.close(rules_fd)
        process.returncode = 0  # who waits for it is told by the loop
        self._pid = process.pid

    def end(self) -> Steps[None]:
        """Wait until it is loaded.

        :raises OSError: it was refused, in nft's own words.
        """
        try:
            if (yield from child_end(self._pid, _LIMIT_S)):
                size = os.fstat(self._output).st_size
                text = os.pread(self._output, size, 0).decode(errors="replace")
                raise OSError(f"nft: {text.strip()}")
        finally:
            os.close(self._output)


def load(rules: str) -> Steps[None]:
    """Load a ruleset into the network namespace that the caller is in when this begins.

    :raises OSError: there is no nft, or it refused.
    """
    yield from Loading(rules).end()
