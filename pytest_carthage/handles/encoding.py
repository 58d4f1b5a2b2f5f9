"""How a machine's programs write text, by the locale that they are told."""

from __future__ import annotations

import codecs
from collections.abc import Mapping

__all__ = ["DEFAULT", "decoded", "encoding_of", "printable"]

#: of ``C.UTF-8``, in which commands are run where nothing else is said
DEFAULT = "utf-8"
#: the first that is set counts, see locale(7)
_VARIABLES = ("LC_ALL", "LC_CTYPE", "LANG")


def encoding_of(env: Mapping[str, str]) -> str:
    """The text encoding that an environment names, by Python's name of it.

    It is UTF-8 where none is named, or one that Python does not know.
    """
    name = next((env[variable] for variable in _VARIABLES if env.get(variable)), "")
    codeset = name.partition(".")[2].partition("@")[0]
    try:
        b"x".decode(codeset, "replace")  # Python has some that are not of text
        return codecs.lookup(codeset).name
    except LookupError:
        return DEFAULT


def decoded(encoding: str, *printed: bytes) -> tuple[str, list[str]]:
    """What was printed as texts, of which the same bytes can be had again.

    :returns: the encoding that it is, and the texts: in UTF-8 where a text in the one that was
        named does not lead back.
    """
    if encoding == DEFAULT:
        return encoding, [data.decode(errors="surrogateescape") for data in printed]
    try:
        texts = [data.decode(encoding, "surrogateescape") for data in printed]
        if [text.encode(encoding, "surrogateescape") for text in texts] == list(printed):
            return encoding, texts
    except UnicodeError:
        pass
    return decoded(DEFAULT, *printed)


def printable(text: str) -> str:
    """A text that can be written anywhere: bytes that were no text are as in ``\\udcff``."""
    return text.encode(errors="backslashreplace").decode()
