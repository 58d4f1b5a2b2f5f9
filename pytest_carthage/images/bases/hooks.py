"""What is done to a Debian beside the installing of its packages: scripts for mmdebstrap(1).

Each is a shell script that finds the tree in ``$1``.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_carthage.work.debian import sources
from pytest_carthage.work.left_out import FILE

if TYPE_CHECKING:
    from pytest_carthage.model.image import Image
    from pytest_carthage.work.debian.archive import Archive

__all__ = ["Hooks"]

_DEBIAN = "http://deb.debian.org/debian"
_LOCALE = "/usr/share/locale"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """The scripts of one image."""

    image: Image
    archive: Archive

    @property
    def at_first(self) -> str:
        """Have dpkg leave out what is not wanted, now and later.

        Of an image that is made anew nothing needs to survive a power cut.
        """
        lines = [
            "# left out to save space; see Image.debian(docs=True, locales=[...])",
            "force-unsafe-io",
            *(f"path-exclude=/usr/share/{kind}/*" for kind in self.image.left_out),
            *(f"path-include={_LOCALE}/{name}" for name in self._languages),
        ]
        text = "".join(f"{line}\n" for line in lines)
        return f'mkdir -p "$1{FILE.parent}"; printf %s {shlex.quote(text)} > "$1{FILE}"'

    @property
    def before_packages(self) -> str:
        """Remove what the essential packages have brought of that.

        It is not filtered: a filter for each of them would take longer than all the rest.
        update-alternatives links manual pages of postgresql-client and others into folders that
        are not there where no package may put anything.
        """
        kept = "".join(f" ! -path {shlex.quote(f'*{_LOCALE}/{name}')}" for name in self._languages)
        return (
            f"for d in {' '.join(self.image.left_out)}; do "
            f'find "$1/usr/share/$d" -depth -mindepth 1 ! -type d{kept} -delete 2>/dev/null; '
            'find "$1/usr/share/$d" -depth -mindepth 1 -type d -empty -delete 2>/dev/null || :; '
            'done; for n in 1 2 3 4 5 6 7 8; do mkdir -p "$1/usr/share/man/man$n"; done'
        )

    @property
    def after_packages(self) -> str:
        """Give it its own sources, and nothing of the host.

        The host's names, resolver, mirrors, proxies and passwords are none of the machine's
        business.
        """
        steps = [
            'rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/etc/apt/sources.list.d/* '
            '"$1"/etc/resolv.conf "$1"/etc/hostname',
            f'printf %s {shlex.quote(self._sources)} > "$1/etc/apt/sources.list"',
        ]
        if self.image.keyring is not None:
            steps.append(
                f'mkdir -p "$1/usr/share/keyrings"; cp {shlex.quote(str(self.image.keyring))} '
                f'"$1{self._keyring}"; chmod 644 "$1{self._keyring}"'
            )
        if self.image.locales:
            lines = "".join(f"{name} {_charset(name)}\n" for name in self.image.locales)
            steps += [
                f'printf %s {shlex.quote(lines)} > "$1/etc/locale.gen"',
                'chroot "$1" locale-gen >&2',
            ]
        return "set -e; " + "; ".join(steps)

    @property
    def _languages(self) -> list[str]:
        """Patterns of what belongs to the languages, below the folder of all of them."""
        names = [name.partition(".")[0].partition("@")[0] for name in self.image.locales]
        languages = dict.fromkeys(part for name in names for part in (name.partition("_")[0], name))
        return [f"{name}/*" for name in languages] + ["locale.alias"] * bool(languages)

    @property
    def _keyring(self) -> str:
        assert self.image.keyring is not None
        return f"/usr/share/keyrings/{self.image.keyring.name}"

    @property
    def _sources(self) -> str:
        """Where its own apt looks, by addresses that mean the same on every host."""
        mirror = self.image.mirror.rstrip("/")
        is_address = mirror.startswith(("http://", "https://")) and "@" not in mirror
        options = "" if self.image.keyring is None else f"[signed-by={self._keyring}] "
        lines = []
        for _, suites in sources.places(self.archive.sources):
            for suite in suites:
                place = mirror if is_address else _DEBIAN
                if not is_address and ("-security" in suite or "/updates" in suite):
                    place = f"{_DEBIAN}-security"
                lines.append(f"deb {options}{place} {suite} main\n")
        return "".join(dict.fromkeys(lines))


def _charset(locale: str) -> str:
    """The set of characters of a locale, as locale.gen(5) wants it beside its name."""
    return locale.partition(".")[2].partition("@")[0]
