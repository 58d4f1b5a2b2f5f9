"""What counts as printed as it is shown, and what does not."""

from __future__ import annotations

import pytest

from tests.docs.console import differs

PRINTED = """\
\x1b[1mcollected 2 items\x1b[0m\r
carthage: sasite-pair: done in 0.14 s (2 machines)\r
stays for 8 h (until Mon 21:20)
declared at /srv/pair/conftest.py:6; try: address
======== 2 passed in 1.08s ========
"""


@pytest.mark.parametrize(
    "shown",
    [
        "",
        "collected 7 items\n",
        "...\ncarthage: bakodi-pair: done in 12 s (3 machines)\n...\n",
        "stays for 9 h (until Sun 1:02)\ndeclared at /home/you/conftest.py:9; try: address\n",
        "collected 2 items\n...\n=== 2 passed in 3.0s ===\n",
    ],
)
def test_numbers_names_days_folders_and_rulers_may_be_others(shown: str) -> None:
    assert differs(shown, PRINTED) == ""


@pytest.mark.parametrize(
    ("shown", "difference"),
    [
        ("collected 2 item\n", "'collected 2 item'"),
        (
            "collected 2 items\nstays",
            "'stays'; there is 'carthage: NAME-pair: done in 0 s",
        ),
        ("...\n=== 2 failed in 3.0s ===\n", "'=== 2 failed in 3.0s ==='"),
        ("stays for 8 h (until Mon 21:20)\ncollected 2 items", "'collected 2 items'; there is"),
    ],
)
def test_other_words_and_another_order_are_told(shown: str, difference: str) -> None:
    assert differs(shown, PRINTED).startswith(difference)
