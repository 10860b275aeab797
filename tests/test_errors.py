"""How the text of an exception is quoted in a message."""

import pytest

from mpvit.errors import LONGEST_LINE, file_reason, first_line


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("\n  \n first \nsecond"), "first"),
        (MemoryError(), "MemoryError"),
        (MuteError(), "MuteError"),
        (OSError(2, "No such file or directory", "a.png"), "[Errno 2] No such file or directory: 'a.png'"),
        (ValueError("x" * 1000), "x" * LONGEST_LINE + "…"),
    ],
)
def test_the_first_line_of_an_exception_is_its_text_or_its_class(error: Exception, line: str) -> None:
    assert first_line(error) == line


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(2, "No such file or directory", "a.png"), "No such file or directory"),
        (OSError("truncated"), "truncated"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "not UTF-8 text"),
        (ValueError("embedded null byte"), "embedded null byte"),
    ],
)
def test_the_reason_of_a_file_error_does_not_repeat_the_path(error: Exception, reason: str) -> None:
    assert file_reason(error) == reason
