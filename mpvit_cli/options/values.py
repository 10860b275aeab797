"""Values of options, read from text: numbers, sizes, amounts, ranges and names."""

import re
from collections.abc import Iterable, Sequence

import typer

from mpvit.errors import UsageError
from mpvit.units import BYTES, decimal_times, is_whole

ALL = "all"

MAX_DIGITS = 9
"""Maximum digits of a whole number: counts of anything larger would not fit into a float."""

_MAX_WHOLE = 10**MAX_DIGITS - 1
_AMOUNTS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


def whole(value: str | int) -> int:
    """Read a whole number; a default is one already."""
    try:
        found = int(value)
    except ValueError:
        raise typer.BadParameter(f"{str(value)[:40]!r} must be a whole number") from None
    if abs(found) > _MAX_WHOLE:
        raise typer.BadParameter(f"{str(value)[:40]!r} must be at most {_MAX_WHOLE}")
    return found


def number(value: str | float) -> float:
    """Read a number; a default is one already."""
    try:
        return float(value)
    except ValueError:
        raise typer.BadParameter(f"{str(value)[:40]!r} must be a number") from None


def is_digits(text: str) -> bool:
    """Tell whether a text consists of ASCII digits."""
    return text.isascii() and text.isdigit()


def parse_size(text: str) -> tuple[int, int]:
    """Read "224" or "800x1280" as (height, width) in pixels; raise ``UsageError`` for anything else."""
    lengths = text.lower().replace("×", "x").split("x")
    if len(lengths) not in (1, 2) or not all(is_digits(length) for length in lengths):
        raise UsageError(f"--size {text!r}: must be a whole number of pixels", hint="--size 224 or --size 800x1280")
    if any(len(length) > MAX_DIGITS or int(length) < 1 for length in lengths):
        raise UsageError(f"--size {text!r}: a side must be from 1 to {_MAX_WHOLE} pixels")
    return int(lengths[0]), int(lengths[-1])


def parse_wholes(flag: str, text: str) -> tuple[int, ...]:
    """Read "1,8,32" as whole numbers of at least 1, each once; raise ``UsageError`` for anything else."""
    words = [word.strip() for word in text.split(",")]
    if not all(map(is_whole, words)):
        raise UsageError(f"{flag} {text!r}: must be whole numbers of at least 1", hint=f"for example {flag} 1,8,32")
    return tuple(dict.fromkeys(int(word) for word in words))


def parse_amount(flag: str, text: str) -> int:
    """Read "3G", "2.5G", "11M" or "300000" as a whole number of at least 1; raise ``UsageError`` for anything else."""
    found = re.fullmatch(r"\s*([0-9]{1,15}(?:\.[0-9]{1,12})?)\s*([kmgt]?)\s*", text.lower())
    amount = decimal_times(found[1], _AMOUNTS[found[2]]) if found else 0
    if amount < 1:
        raise UsageError(
            f"{flag} {text[:40]!r}: must be a number of at least 1, with k, M, G or T", hint=f"for example {flag} 2.5G"
        )
    return amount


def parse_bytes(flag: str, text: str) -> int:
    """Read "24GiB", "80 GB" or a number of bytes; raise ``UsageError`` for anything else."""
    units = {name.lower(): factor for name, factor in BYTES.items()} | {"": 1, "bytes": 1}
    found = re.fullmatch(r"\s*([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([a-z]*)\s*", text.lower())
    if not found or found[2] not in units:
        raise UsageError(
            f"{flag} {text[:40]!r}: must be a number and a unit: {', '.join(BYTES)}", hint=f"for example {flag} 24GiB"
        )
    return decimal_times(found[1], units[found[2]])


def parse_seconds(flag: str, text: str) -> float:
    """Read "20ms", "1.5s" or "800us" as seconds; raise ``UsageError`` for anything else."""
    found = re.fullmatch(r"\s*([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(us|ms|s)\s*", text.lower())
    if not found or not float(found[1]):
        units = ", ".join(_SECONDS)
        raise UsageError(f"{flag} {text[:40]!r}: must be a number above 0 and a unit: {units}", hint=f"for example {flag} 20ms")
    return float(found[1]) * _SECONDS[found[2]]


def parse_range(text: str) -> tuple[int, int]:
    """Read "49..65536" as (first, last); raise ``UsageError`` for anything else."""
    ends = text.split("..")
    if len(ends) != 2 or not all(is_digits(end) and len(end) <= MAX_DIGITS for end in ends):  # noqa: PLR2004
        raise UsageError(f"range {text!r}: must be two whole numbers", hint="for example 49..65536")
    first, last = int(ends[0]), int(ends[1])
    if not 1 <= first <= last:
        raise UsageError(f"range {text!r}: must go from at least 1 upwards", hint="for example 49..65536")
    return first, last


def parse_names(given: Sequence[str] | None, every: Iterable[str], default: Sequence[str]) -> list[str]:
    """Read repeated or comma-separated names, each once in the given order; ``all`` stands for ``every`` name."""
    names = [name.strip() for text in given or default for name in text.split(",")]
    return list(dict.fromkeys(name for given in names for name in (every if given == ALL else [given])))
