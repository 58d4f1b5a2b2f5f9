"""Keys of a keyboard: by their names, and those that type a text.

A key is a number of the kernel's (linux/input-event-codes.h), a *chord* some of them that are
pressed together. Which character a key types is up to the keymap that the machine has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType

__all__ = ["KEYMAPS", "KEYS", "Chord", "chords", "typed"]

Chord = tuple[int, ...]

_LETTERS = {
    letter: first + number
    for first, row in ((16, "qwertyuiop"), (30, "asdfghjkl"), (44, "zxcvbnm"))
    for number, letter in enumerate(row)
}
_DIGITS = {digit: number for number, digit in enumerate("1234567890", 2)}
_FUNCTIONS = {f"f{number}": code for number, code in enumerate([*range(59, 69), 87, 88], 1)}

#: name of a key to its number; letters and signs are those that it types on an American keyboard
KEYS: Mapping[str, int] = MappingProxyType(
    {
        **_LETTERS,
        **_DIGITS,
        **_FUNCTIONS,
        "esc": 1,
        "backspace": 14,
        "tab": 15,
        "enter": 28,
        "space": 57,
        "minus": 12,
        "equal": 13,
        "leftbrace": 26,
        "rightbrace": 27,
        "semicolon": 39,
        "apostrophe": 40,
        "grave": 41,
        "backslash": 43,
        "comma": 51,
        "dot": 52,
        "slash": 53,
        "ctrl": 29,
        "shift": 42,
        "alt": 56,
        "meta": 125,
        "menu": 127,
        "rightctrl": 97,
        "rightshift": 54,
        "altgr": 100,
        "capslock": 58,
        "numlock": 69,
        "scrolllock": 70,
        "sysrq": 99,
        "pause": 119,
        "home": 102,
        "up": 103,
        "pageup": 104,
        "left": 105,
        "right": 106,
        "end": 107,
        "down": 108,
        "pagedown": 109,
        "insert": 110,
        "delete": 111,
    }
)

_SHIFT, _ALTGR = KEYS["shift"], KEYS["altgr"]
#: the keys that type characters, from the upper left to the lower right
_TYPING = (41, *range(2, 14), *range(16, 28), *range(30, 41), 43, 86, *range(44, 54))
_ALWAYS: Mapping[str, Chord] = {
    " ": (KEYS["space"],),
    "\n": (KEYS["enter"],),
    "\r": (KEYS["enter"],),
    "\t": (KEYS["tab"],),
    "\b": (KEYS["backspace"],),
    "\x1b": (KEYS["esc"],),
}


def _keymap(plain: str, shifted: str, third: str = "") -> Mapping[str, Chord]:
    """Character to the chord that types it.

    :param plain: what the keys of ``_TYPING`` type; a blank is a key that types none by itself.
    :param shifted: the same with the shift key.
    :param third: characters that are typed with AltGr, each behind that which its key types.
    """
    keys = dict(zip(plain, _TYPING, strict=True))
    return MappingProxyType(
        {
            **{third[at + 1]: (_ALTGR, keys[third[at]]) for at in range(0, len(third), 2)},
            **dict(zip(shifted, ((_SHIFT, key) for key in _TYPING), strict=True)),
            **{character: (key,) for character, key in keys.items()},
            **_ALWAYS,
        }
    )


#: name to keymap; the names are those of loadkeys(1) and X
KEYMAPS: Mapping[str, Mapping[str, Chord]] = MappingProxyType(
    {
        "us": _keymap(
            "`1234567890-=qwertyuiop[]asdfghjkl;'\\ zxcvbnm,./",
            '~!@#$%^&*()_+QWERTYUIOP{}ASDFGHJKL:"| ZXCVBNM<>?',
        ),
        "gb": _keymap(
            "`1234567890-=qwertyuiop[]asdfghjkl;'#\\zxcvbnm,./",
            '¬!"£$%^&*()_+QWERTYUIOP{}ASDFGHJKL:@~|ZXCVBNM<>?',
        ),
        "de": _keymap(
            " 1234567890ß qwertzuiopü+asdfghjklöä#<yxcvbnm,.-",
            "°!\"§$%&/()=? QWERTZUIOPÜ*ASDFGHJKLÖÄ'>YXCVBNM;:_",
            "2²3³7{8[9]0}ß\\q@e€+~<|mµ",
        ),
    }
)


def typed(text: str, keymap: str = "us") -> Sequence[Chord]:
    """The chords that type a text.

    :param keymap: that the machine has, one of :data:`KEYMAPS`.
    :raises ValueError: no key of it types one of the characters, or there is no such keymap.
    """
    having = KEYMAPS.get(keymap)
    if having is None:
        raise ValueError(f"keymap {keymap!r} is unknown; there are: {', '.join(KEYMAPS)}")
    for character in text:
        if character not in having:
            able = ", ".join(f"keymap={name!r}" for name in KEYMAPS if character in KEYMAPS[name])
            raise ValueError(
                f"no key types {character!r} with keymap {keymap!r}; "
                f"try: {able or 'another way in, as run() or write_text()'}"
            )
    return [having[character] for character in text]


def chords(keys: str) -> Sequence[Chord]:
    """Chords by the names of their keys: ``"ctrl-alt-f2"``, ``"down down enter"``.

    :raises ValueError: a key is unknown.
    """
    return [tuple(map(_key, re.split("[-+]", chord))) for chord in keys.lower().split()]


def _key(name: str) -> int:
    if name not in KEYS:
        near = get_close_matches(name, KEYS, 1)
        remedy = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(KEYS)}"
        raise ValueError(f"key {name!r} is unknown; {remedy}")
    return KEYS[name]
