"""How the host's own apt reaches Debian: mirrors, keys, proxies. See sources.list(5).

A host behind a proxy or with a mirror of its own has that in apt's configuration already; an
image is built by the same way.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

from pytest_carthage.fabric.host.programs import PATH
from pytest_carthage.handles.lines import lines_of

__all__ = [
    "addresses",
    "apt_options",
    "deb822_entries",
    "default_entries",
    "is_local",
    "login_files",
    "mirror_entries",
    "places",
    "sources_for",
    "without_logins",
]

_APT = Path("/etc/apt")
_LISTS = Path("/var/lib/apt/lists")
_KEYRINGS = (
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
)
# where Debian's security updates were called otherwise
_BEFORE_BULLSEYE = ("wheezy", "jessie", "stretch", "buster")

# what concerns the way to the archive; the rest of the host's taste is none of the image's
_PASSED_ON = re.compile(
    r"Acquire::(?!IndexTargets|CompressionTypes|Changelogs|cdrom|GzipIndexes|Languages)"
    r'[^ ]+ ".+";'
)
_ONE_LINE = re.compile(
    r"deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s*(?P<components>[^#]*)"
)
_WITH_KEYS = re.compile(r"\[signed-by=(?P<keyring>[^]]+)\]\s+(?P<uri>\S+)")
_LONG_NAMES = {"arch": "Architectures", "lang": "Languages", "target": "Targets"}

Stanza = Mapping[str, str]


def sources_for(suite: str, *, apt: Path = _APT, lists: Path = _LISTS) -> str:
    """The host's entries for a suite of Debian, in deb822 form; empty where it has none."""
    wanted = (suite, f"{suite}-updates", f"{suite}-security")
    entries: list[str] = []
    has_suite = False
    for stanza in _stanzas(apt):
        if "deb" not in stanza.get("types", "").split():
            continue
        suites = [
            name
            for name in stanza.get("suites", "").split()
            if name in wanted and _is_debian(stanza, name, lists)
        ]
        if not suites:
            continue
        has_suite = has_suite or suite in suites
        fields = {**stanza, "types": "deb", "suites": " ".join(suites)}
        entries.append("".join(f"{name.title()}: {value}\n" for name, value in fields.items()))
    return "\n".join(entries) if has_suite else ""


def _is_debian(stanza: Stanza, suite: str, lists: Path) -> bool:
    """Whether it is Debian's archive, rather than somebody else's with a suite so named."""
    uris = stanza.get("uris", "").split()
    if "main" not in stanza.get("components", "").split():
        return False
    for uri in uris:
        place = re.sub(r"^[a-z+]+://(?:[^/@]*@)?", "", uri).rstrip("/").replace("/", "_")
        for kind in ("InRelease", "Release"):
            try:
                text = (lists / f"{place}_dists_{suite}_{kind}").read_text(errors="replace")
            except OSError:
                continue
            return re.search(r"^Origin: Debian$", text, re.MULTILINE) is not None
    return any("debian" in uri and not uri.startswith("cdrom:") for uri in uris)


def _stanzas(apt: Path) -> Iterator[Stanza]:
    """Entries of apt's configuration that are enabled; names of fields in lower case."""
    files = [apt / "sources.list"]
    with contextlib.suppress(OSError):
        files += sorted((apt / "sources.list.d").iterdir())
    for file in files:
        try:
            text = file.read_text(errors="replace")
        except OSError:
            continue
        if file.suffix == ".list":
            yield from _one_line_entries(text)
        elif file.suffix == ".sources":
            yield from deb822_entries(text)


def _one_line_entries(text: str) -> Iterator[Stanza]:
    for line in lines_of(text):
        match = _ONE_LINE.match(line.strip())
        if match is None:
            continue
        stanza = {
            "types": "deb",
            "uris": match["uri"],
            "suites": match["suite"],
            "components": match["components"].strip(),
        }
        for option in (match["options"] or "").split():
            name, _, value = option.partition("=")
            stanza[_LONG_NAMES.get(name, name).lower()] = value.replace(",", " ")
        yield stanza


def addresses(*, apt: Path = _APT) -> list[str]:
    """Addresses of all repositories that the host's own apt has, without passwords."""
    uris = [uri for stanza in _stanzas(apt) for uri in stanza.get("uris", "").split()]
    return [without_logins(uri)[0] for uri in uris if "://" in uri]


def deb822_entries(text: str) -> Iterator[Stanza]:
    """Entries in deb822 form that are enabled; names of fields in lower case."""
    lines = [line for line in lines_of(text) if not line.startswith("#")]
    for block in re.split(r"\n\s*\n", "\n".join(lines)):
        stanza: dict[str, str] = {}
        last = ""
        for line in lines_of(block):
            if line[:1].isspace() and last:
                stanza[last] += f"\n{line}"
            elif ":" in line:
                last, _, value = line.partition(":")
                last = last.strip().lower()
                stanza[last] = value.strip()
        if stanza and stanza.pop("enabled", "yes").lower() not in ("no", "false", "0"):
            yield stanza


def apt_options(*, apt: Path = _APT) -> str:
    """The host's proxies, certificates, time limits and passwords, as text of an apt.conf(5)."""
    try:
        dump = subprocess.run(
            ["apt-config", "dump"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PATH": PATH},
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""  # no apt here: mmdebstrap says what it needs
    options = [line for line in lines_of(dump) if _PASSED_ON.fullmatch(line)]
    if (apt / "auth.conf").exists():
        options.append(f'Dir::Etc::netrc "{apt}/auth.conf";')
    if (apt / "auth.conf.d").is_dir():
        options.append(f'Dir::Etc::netrcparts "{apt}/auth.conf.d";')
    return "\n".join(options)


def default_entries(suite: str) -> str:
    """Debian's own archive, for hosts without entries for a suite."""
    return _entries(f"http://deb.debian.org/debian {suite}", *_updates(suite))


def mirror_entries(suite: str, mirror: str) -> str:
    """One archive only; a path is a folder of this host.

    :param mirror: its address, perhaps with options before it, as in sources.list(5).
    """
    match = _WITH_KEYS.fullmatch(mirror)
    keyring = match["keyring"] if match else ""
    mirror = match["uri"] if match else mirror
    local = re.sub(r"^(?:file|copy):(?://(?=/))?", "", mirror)
    fields = []
    if local.startswith("/"):
        # what is read in place need not be there for those who install it
        mirror = f"copy:{local}"
        release = Path(local) / "dists" / suite
        if not keyring and not any(
            (release / name).exists() for name in ("InRelease", "Release.gpg")
        ):
            fields.append("Trusted: yes")
    elif "snapshot" in mirror:
        fields.append("Check-Valid-Until: no")
    return _entries(f"{mirror} {suite}", fields=fields, keyring=keyring)


def places(entries: str) -> Iterator[tuple[str, list[str]]]:
    """Addresses that entries lead to, each with the suites that it has there."""
    for stanza in deb822_entries(entries):
        for uri in stanza.get("uris", "").split():
            yield uri.rstrip("/"), stanza.get("suites", "").split()


def is_local(entries: str) -> bool:
    """Whether entries lead to folders of this host only."""
    uris = re.findall(r"(?m)^uris: *(.+)$", entries, re.IGNORECASE)
    return all(uri.startswith(("copy:", "file:")) for line in uris for uri in line.split())


def without_logins(entries: str) -> tuple[str, str]:
    """Take names and passwords out of addresses; returns them as apt_auth.conf(5) has them."""
    logins: dict[str, None] = {}

    def take(match: re.Match[str]) -> str:
        user, _, password = match["login"].partition(":")
        machine = f"{match['scheme']}{match['rest']}"
        logins[f"machine {machine} login {unquote(user)} password {unquote(password)}"] = None
        return machine

    text = re.sub(r"(?P<scheme>https?://)(?P<login>[^/@\s]*)@(?P<rest>\S+)", take, entries)
    return text, "".join(f"{line}\n" for line in logins)


def login_files(*, apt: Path = _APT) -> list[Path]:
    """The host's files of passwords for archives."""
    with contextlib.suppress(OSError):
        return sorted(path for path in (apt / "auth.conf.d").iterdir() if path.suffix == ".conf")
    return []


def _updates(suite: str) -> list[str]:
    if suite in ("sid", "unstable", "experimental", "rc-buggy"):
        return []
    security = f"{suite}/updates" if suite in _BEFORE_BULLSEYE else f"{suite}-security"
    return [
        f"http://deb.debian.org/debian {suite}-updates",
        f"http://deb.debian.org/debian-security {security}",
    ]


def _entries(*places: str, fields: Sequence[str] = (), keyring: str = "") -> str:
    own = next((path for path in map(Path, _KEYRINGS) if path.exists()), Path(_KEYRINGS[0]))
    keyring = keyring or str(own)
    stanzas = []
    for place in places:
        uri, _, suite = place.partition(" ")
        more = "".join(f"{field}\n" for field in fields)
        stanzas.append(
            f"Types: deb\nUris: {uri}\nSuites: {suite}\nComponents: main\n"
            f"Signed-By: {keyring}\n{more}"
        )
    return "\n".join(stanzas)
