"""Keys by name, and those that type a text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_carthage.screens.keys import KEYMAPS, KEYS, chords, typed

_HEADER = Path("/usr/include/linux/input-event-codes.h")


def test_text_is_typed_with_the_shift_key_where_it_takes_it() -> None:
    assert typed("aA!\n") == [(30,), (42, 30), (42, 2), (28,)]


def test_other_keymaps_have_other_keys() -> None:
    assert typed("yz", "us") == typed("zy", "de")
    assert typed("@{|", "de") == [(100, 16), (100, 8), (100, 86)]
    assert typed('"', "gb") == [(42, 3)]


@pytest.mark.parametrize("keymap", KEYMAPS)
def test_keymaps_type_what_commands_are_made_of(keymap: str) -> None:
    plain = {chr(number) for number in range(32, 127)} - ({"^", "`"} if keymap == "de" else set())
    assert plain <= set(KEYMAPS[keymap])


def test_character_that_no_key_types_is_refused_with_the_keymap_that_has_it() -> None:
    with pytest.raises(ValueError, match="no key types 'ß' with keymap 'us'; try: keymap='de'"):
        typed("Straße")
    with pytest.raises(ValueError, match="no key types '漢' with keymap 'de'; try: another way in"):
        typed("漢", "de")
    with pytest.raises(ValueError, match="keymap 'dvorak' is unknown; there are: us, gb, de"):
        typed("a", "dvorak")


def test_chords_are_keys_by_name() -> None:
    assert chords("ctrl-alt-f2") == [(29, 56, 60)]
    assert chords("Ctrl+Alt+Delete  down enter") == [(29, 56, 111), (108,), (28,)]
    assert chords("") == []


def test_unknown_key_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ValueError, match="key 'entr' is unknown; did you mean 'enter'"):
        chords("ctrl-entr")
    with pytest.raises(ValueError, match="key 'qqqq' is unknown; there are: q, w, e"):
        chords("qqqq")


@pytest.mark.skipif(not _HEADER.exists(), reason="the kernel's header is not installed")
def test_numbers_of_keys_are_those_of_the_kernel() -> None:
    codes = dict(re.findall(r"#define KEY_(\w+)\s+(\d+)", _HEADER.read_text()))
    kernel = {
        "ctrl": "leftctrl",
        "shift": "leftshift",
        "alt": "leftalt",
        "meta": "leftmeta",
        "altgr": "rightalt",
        "menu": "compose",
    }
    for name, code in KEYS.items():
        assert int(codes[kernel.get(name, name).upper()]) == code, name
