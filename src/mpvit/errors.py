"""Errors for a user: one line with the value and the rule, a hint with the remedy, an exit code."""

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST_LINE = 300
"""Maximum length of a quoted exception text, in characters."""


class MpvitError(Exception):
    """An error for a user: ``str(error)`` is one line, ``hint`` the remedy or empty."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(MpvitError, ValueError):
    """An argument breaks a rule."""

    exit_code = 2


class CheckError(MpvitError):
    """A requested check failed."""

    exit_code = 3


class WeightsError(MpvitError):
    """A weights file that cannot be read, or does not fit the network."""


class ImageError(MpvitError):
    """The file ``image`` cannot be read as an image, for a ``reason``."""

    def __init__(self, image: str, reason: str) -> None:
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
    """Return the error for an unknown ``name`` of a ``what`` (variant, counter, ...), with the most similar one as hint."""
    names = list(known)
    near = get_close_matches(name.lower(), names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else ""
    return UsageError(f"unknown {what} {name!r}: must be one of {', '.join(names)}", hint=hint)
