"""The encoding that a locale names, and texts that lead back to what was printed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_carthage.handles.encoding import decoded, encoding_of, printable


@pytest.mark.parametrize(
    ("env", "encoding"),
    [
        ({}, "utf-8"),
        ({"LANG": "de_DE.ISO-8859-15@euro"}, "iso8859-15"),
        ({"LANG": "de_DE.ISO-8859-1", "LC_ALL": "C.UTF-8"}, "utf-8"),
        ({"LANG": "C.UTF-8", "LC_CTYPE": "ja_JP.eucJP"}, "euc_jp"),
        ({"LANG": "C.UTF-8", "LC_CTYPE": ""}, "utf-8"),
        ({"LANG": "POSIX"}, "utf-8"),
        ({"LANG": "xx.no-such-thing"}, "utf-8"),
        ({"LANG": "xx.hex"}, "utf-8"),  # which Python knows, but not as one of text
    ],
)
def test_encoding_is_that_of_the_locale_that_counts(env: dict[str, str], encoding: str) -> None:
    assert encoding_of(env) == encoding


@given(st.binary(), st.sampled_from(["utf-8", "latin-1", "cp932", "iso2022_jp", "utf-16", "utf-7"]))
def test_text_leads_back_to_the_same_bytes(data: bytes, wanted: str) -> None:
    encoding, (text,) = decoded(wanted, data)
    assert text.encode(encoding, "surrogateescape") == data


def test_text_that_can_be_written_anywhere_shows_its_bytes() -> None:
    assert printable("é\udcff") == "é\\udcff"
