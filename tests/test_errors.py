"""What errors say."""

from __future__ import annotations

import pytest

from pytest_carthage.errors import CreationError, HostError, Problem, first_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (CreationError("machine 'web': no answer\nits log:"), "machine 'web': no answer"),
        (CreationError(""), "CreationError"),
        (CreationError("\n  machine 'web': no disk\n"), "machine 'web': no disk"),
        (OSError("no space left\non device"), "OSError: no space left"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (ValueError(" "), "ValueError"),
    ],
)
def test_first_line_has_the_kind_of_foreign_errors_before_it(
    error: BaseException, line: str
) -> None:
    assert first_line(error) == line


def test_host_error_lists_problems_with_their_remedies() -> None:
    problems = [
        Problem(who="podman", what="no program 'podman'", remedy="apt install podman"),
        Problem(who="images", what="no mmdebstrap", remedy="apt install mmdebstrap"),
    ]
    error = HostError(problems)
    assert str(error) == (
        "this host lacks:\n"
        "  podman: no program 'podman'; try: apt install podman\n"
        "  images: no mmdebstrap; try: apt install mmdebstrap"
    )
    assert error.problems == tuple(problems)
