"""The errors a person may meet: one line with the value and the rule, one hint with the remedy, one exit code."""

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST_LINE = 300
"""Maximum length of a quoted exception text, in characters."""


class MpvitError(Exception):
    """Work that failed. ``str(error)`` is the line to print, ``hint`` the remedy (may be empty)."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Store the line ``message`` (value and rule) and its remedy ``hint``."""
        super().__init__(message)
        self.hint = hint


class UsageError(MpvitError, ValueError):
    """A value that the caller gave breaks a rule."""

    exit_code = 2


class CheckError(MpvitError):
    """A check that was asked for does not hold."""

    exit_code = 3


class WeightsError(MpvitError):
    """A weights file that cannot be read, or does not fit the network."""


class ImageError(MpvitError):
    """A file that cannot be read as an image; ``reason`` says why without naming it."""

    def __init__(self, image: str, reason: str) -> None:
        """Name the file ``image`` and the ``reason``."""
        super().__init__(f"cannot read image {image!r}: {reason}")
        self.reason = reason


def first_line(error: BaseException) -> str:
    """Return the first non-empty line of an exception's text, or the name of its class if it has no text."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - the __str__ of an exception class that a user wrote may fail
        text = ""
    line = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    return line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE] + "…"


def file_reason(error: BaseException) -> str:
    """Return why a file could not be read or written: the reason that the system gives, without the path if possible."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else first_line(error)


def unknown_name(what: str, name: str, known: Iterable[str]) -> UsageError:
    """Return the error for a mistyped ``name`` of a ``what`` (a variant, a counter, ...), the nearest one in its hint."""
    names = list(known)
    near = get_close_matches(name.lower(), names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else ""
    return UsageError(f"unknown {what} {name!r}: must be one of {', '.join(names)}", hint=hint)
