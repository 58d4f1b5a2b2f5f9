"""Commands that print very much: stopped at their limit, whole below it, short in the records."""

from __future__ import annotations

import pytest

from pytest_carthage import Layout, Machine, Network, OutputLimitError, testing

MIB = 1 << 20


class Printer(Layout):
    lan = Network("10.0.0.0/24")
    web = Machine(links={"eth0": lan.at(".1")})


def test_command_that_prints_more_than_it_may_is_an_error_with_all_it_printed() -> None:
    with (
        testing.live(Printer, answers={"big": "line\n" * MIB}) as shop,
        pytest.raises(OutputLimitError) as caught,
    ):
        shop.web.run("big", most_output_mib=1)
    text = str(caught.value)
    assert text.startswith(
        "machine 'web' of layout 'Printer': 'big' printed more than 1 MiB, did not end and was"
    )
    assert "have it print less or into a file, or give it most_output_mib=..." in text
    assert text.count("  line") in (19, 20)  # the last one may be cut
    assert MIB < len(caught.value.result.stdout) < 2 * MIB
    assert caught.value.result.status == -9


def test_command_within_its_limit_is_whole_for_who_ran_it_and_short_in_the_records() -> None:
    big = "line\n" * MIB
    with testing.live(Printer, answers={"big": big}) as shop:
        assert shop.web.run("big").stdout == big
        assert shop.web.run("big", most_output_mib=None).stdout == big
        kept = shop.web.commands[-1]
        assert len(kept.stdout) < 33_000
        assert "characters are left out of this record" in kept.stdout


def test_commands_of_a_machine_are_kept_up_to_a_number() -> None:
    with testing.live(Printer, answers={"small": "x"}) as shop:
        commands = shop.web.aio.commands
        shop.web.run("small")
        for _ in range(3000):
            commands.append(commands[0])
        assert len(shop.web.commands) == 1000
        assert commands.left_out == 2001
