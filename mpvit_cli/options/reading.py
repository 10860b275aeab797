"""What words are read as: numbers, sizes, amounts, ranges and names."""

import re
from collections.abc import Callable, Iterable, Sequence

import typer

from mpvit.errors import UsageError
from mpvit.units import BYTES, decimal_times, is_whole

ALL = "all"

LONGEST = 9
"""Digits of the largest."""

LARGEST = 10**LONGEST - 1
"""The largest whole number that an option takes: counts of anything larger would not fit a float."""


def complete(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a shell completion that offers those of ``names`` that start as typed."""
    known = list(names)
    return lambda incomplete: [name for name in known if name.startswith(incomplete)]


def whole(value: str | int) -> int:
    """Read a whole number; a default comes as one."""
    try:
        found = int(value)
    except ValueError:
        raise typer.BadParameter(f"{str(value)[:40]!r} must be a whole number") from None
    if abs(found) > LARGEST:
        raise typer.BadParameter(f"{str(value)[:40]!r} must be at most {LARGEST}")
    return found


def number(value: str | float) -> float:
    """Read a number; a default comes as one."""
    try:
        return float(value)
    except ValueError:
        raise typer.BadParameter(f"{str(value)[:40]!r} must be a number") from None


def is_digits(text: str) -> bool:
    """Tell whether a text is a number without sign in digits of ASCII."""
    return text.isascii() and text.isdigit()


def parse_wholes(option: str, text: str) -> tuple[int, ...]:
    """Read "1,8,32" as whole numbers of at least 1, each once; raise ``UsageError`` for anything else."""
    words = [word.strip() for word in text.split(",")]
    if not all(map(is_whole, words)):
        raise UsageError(f"{option} {text!r}: must be whole numbers of at least 1", hint=f"for example {option} 1,8,32")
    return tuple(dict.fromkeys(int(word) for word in words))


AMOUNTS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
"""What the letters behind a number of MACs or parameters stand for."""


def parse_amount(option: str, text: str) -> int:
    """Read "3G", "2.5G", "11M" or "300000" as a whole number of at least 1; raise ``UsageError`` for anything else."""
    found = re.fullmatch(r"\s*([0-9]{1,15}(?:\.[0-9]{1,12})?)\s*([kmgt]?)\s*", text.lower())
    amount = decimal_times(found[1], AMOUNTS[found[2]]) if found else 0
    if amount < 1:
        raise UsageError(
            f"{option} {text[:40]!r}: must be a number of at least 1, with k, M, G or T", hint=f"for example {option} 2.5G"
        )
    return amount


def parse_bytes(option: str, text: str) -> int:
    """Read "24GiB", "80 GB" or a number of bytes; raise ``UsageError`` for anything else."""
    units = {name.lower(): factor for name, factor in BYTES.items()} | {"": 1, "bytes": 1}
    found = re.fullmatch(r"\s*([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([a-z]*)\s*", text.lower())
    if not found or found[2] not in units:
        raise UsageError(
            f"{option} {text[:40]!r}: must be a number and a unit: {', '.join(BYTES)}", hint=f"for example {option} 24GiB"
        )
    return decimal_times(found[1], units[found[2]])


def parse_range(text: str) -> tuple[int, int]:
    """Read "49..65536" as (first, last); raise ``UsageError`` for anything else."""
    ends = text.split("..")
    if len(ends) != 2 or not all(is_digits(end) and len(end) <= LONGEST for end in ends):  # noqa: PLR2004
        raise UsageError(f"range {text!r}: must be two whole numbers", hint="for example 49..65536")
    first, last = int(ends[0]), int(ends[1])
    if not 1 <= first <= last:
        raise UsageError(f"range {text!r}: must go from at least 1 upwards", hint="for example 49..65536")
    return first, last


def parse_names(given: Sequence[str] | None, every: Iterable[str], default: Sequence[str]) -> list[str]:
    """Read repeated or comma-joined names, ``all`` standing for ``every`` one; each once, in the order given."""
    names = [name.strip() for text in given or default for name in text.split(",")]
    return list(dict.fromkeys(name for given in names for name in (every if given == ALL else [given])))


def given(ctx: typer.Context, name: str) -> bool:
    """Tell whether an option stands on the command line: a default and the environment give way to another option."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def chosen(ctx: typer.Context, name: str) -> bool:
    """Tell whether an option stands on the command line or in the environment: whether its value is no default."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT")
