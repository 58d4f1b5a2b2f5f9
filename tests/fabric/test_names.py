"""Lines of /etc/hosts that are ours, among those that are not."""

from __future__ import annotations

from pytest_carthage.fabric.names import initial, merged

BEFORE = ["127.0.0.1 localhost", "::1 localhost", "10.0.0.1 a", "10.0.0.2 b"]
TEXT = initial("".join(f"{line}\n" for line in BEFORE))


def test_machines_are_in_a_block_below_the_loopback() -> None:
    lines = TEXT.splitlines()
    assert lines[:2] == BEFORE[:2]
    assert lines[2].startswith("# machines of this layout")
    assert lines[3:5] == BEFORE[2:]
    assert lines[5].startswith("# end")


def test_newcomer_is_put_into_the_block_and_who_leaves_out_of_it() -> None:
    now = [*BEFORE[:3], "10.0.0.3 c"]
    text = merged(TEXT, BEFORE, now)
    assert text == TEXT.replace("10.0.0.2 b", "10.0.0.3 c")
    assert merged(text, now, BEFORE) == TEXT


def test_lines_of_others_stay_wherever_they_are() -> None:
    edited = (
        "192.0.2.1 first\n" + TEXT.replace("10.0.0.1 a", "10.0.0.1 a\n192.0.2.2 amid") + "# last\n"
    )
    text = merged(edited, BEFORE, BEFORE[:3])
    assert text == edited.replace("10.0.0.2 b\n", "")


def test_line_of_ours_that_was_changed_or_removed_stays_so() -> None:
    edited = TEXT.replace("10.0.0.1 a\n", "10.0.0.1 a.example.org a\n").replace("10.0.0.2 b\n", "")
    now = [*BEFORE, "10.0.0.3 c"]
    text = merged(edited, BEFORE, now)
    assert text == edited.replace("# end", "10.0.0.3 c\n# end")


def test_newcomer_is_told_of_at_the_end_of_a_file_without_the_block() -> None:
    assert merged("192.0.2.1 own\n", BEFORE, [*BEFORE, "10.0.0.3 c"]) == (
        "192.0.2.1 own\n10.0.0.3 c\n"
    )


def test_line_that_somebody_has_written_already_is_not_repeated() -> None:
    text = TEXT + "10.0.0.3 c\n"
    assert merged(text, BEFORE, [*BEFORE, "10.0.0.3 c"]) == text


def test_line_of_others_with_odd_characters_is_one_line_and_stays() -> None:
    odd = "192.0.2.1 odd # a\fb\x85c\u2028d\r\n"
    assert merged(odd + TEXT, BEFORE, BEFORE) == odd + TEXT
    assert merged(odd + TEXT, BEFORE, BEFORE[:3]) == (odd + TEXT).replace("10.0.0.2 b\n", "")
    assert merged("", [], ["10.0.0.1 a"]) == "10.0.0.1 a\n"
