"""A report's files in its folder: the JSON first, from which the others can be drawn again."""

import os
from pathlib import Path

from mpvit.errors import MpvitError, UsageError, file_reason
from mpvit.files import write_atomically
from mpvit.report.page import draw
from mpvit.report.results import Report
from mpvit.report.saved import FILE, to_json


def check_folder(folder: Path) -> None:
    """Raise ``UsageError`` for what can be no folder to write to, before any work is done for it."""
    existing = folder
    while not os.path.lexists(existing) and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise UsageError(f"-o {str(folder)!r}: {str(existing)!r} is no folder", hint="-o takes a folder; it is made if need be")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(f"-o {str(folder)!r}: {str(existing)!r} cannot be written to", hint="-o another folder")


def write_report(report: Report, folder: Path) -> list[Path]:
    """Draw the report and write its files, each whole or not at all; return their paths. Raises ``MpvitError``."""
    files = {FILE: to_json(report), **draw(report)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = file_reason(error)
        raise MpvitError(f"cannot make the folder {str(folder)!r}: {reason}", hint="nothing was left half-written") from None
    for name, text in files.items():
        write_atomically(folder / name, text.encode())
    return [folder / name for name in files]
