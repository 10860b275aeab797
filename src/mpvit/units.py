"""Factors between units, and numbers as text."""

import re

from mpvit.errors import UsageError

FLOPS_PER_MAC = 2
"""A multiply-add (MAC) is one multiplication and one addition: two floating-point operations."""

ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of an element of each dtype that networks run in."""

BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
"""Bytes of each unit of memory."""


def decimal_times(decimal: str, factor: int) -> int:
    """Return a decimal number such as "2.5" times ``factor``, rounded down exactly."""
    whole, _, fraction = decimal.partition(".")
    return int(whole + fraction) * factor // 10 ** len(fraction)


def is_whole(text: str, digits: int = 9) -> bool:
    """Return whether ``text`` is a whole number of at least 1 with at most ``digits`` digits."""
    return text.isascii() and text.isdigit() and len(text) <= digits and int(text) >= 1


def parse_whole(text: str) -> int:
    """Read a whole number of at least 1; raise ``UsageError`` for other text."""
    if not is_whole(text):
        raise UsageError(f"{text[:40]!r}: must be a whole number of at least 1")
    return int(text)


def parse_ratio(text: str) -> float:
    """Read a decimal number above 0, as an int if it is whole; raise ``UsageError`` for other text."""
    if not re.fullmatch(r"(?=.*[1-9])([0-9]{1,9}(\.[0-9]{0,9})?|\.[0-9]{1,9})", text):
        raise UsageError(f"{text[:40]!r}: must be a number above 0")
    number = float(text)
    return int(number) if number.is_integer() else number


def grouped(number: int, separator: str = " ") -> str:
    """Return an integer with its digits in groups of three: 2 971 396 560."""
    return f"{number:,}".replace(",", separator)


def times(shape: tuple[int, ...], sign: str = "×") -> str:
    """Return a shape or size as text: 1×3×224×224."""
    return sign.join(str(length) for length in shape)


def duration(seconds: float) -> str:
    """Return a duration as text: 1 h 52 min, 12 min, 40 s."""
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    if hours:
        return f"{hours} h {rest} min"
    return f"{minutes} min" if minutes > 1 else f"{seconds:.0f} s"
