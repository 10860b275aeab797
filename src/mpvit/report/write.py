"""The files of a report in its folder: the JSON first, from which the others can be drawn again."""

import os
from pathlib import Path

from mpvit.errors import MpvitError, UsageError, file_reason
from mpvit.files import write_atomically
from mpvit.report.page import draw
from mpvit.report.results import Report
from mpvit.report.saved import FILE, to_json


def check_folder(folder: Path) -> None:
    """Raise ``UsageError`` if ``folder`` cannot be made or written to."""
    existing = folder
    while not os.path.lexists(existing) and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise UsageError(
            f"folder {str(folder)!r}: {str(existing)!r} is not a folder", hint="choose a folder; it is made if needed"
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(f"folder {str(folder)!r}: {str(existing)!r} cannot be written to", hint="choose another folder")


def write_report(report: Report, folder: Path) -> list[Path]:
    """Draw the report and write its files, each whole or not at all; return their paths. Raises ``MpvitError``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = file_reason(error)
        raise MpvitError(f"cannot make the folder {str(folder)!r}: {reason}", hint="nothing was written") from None
    files = {FILE: to_json(report), **draw(report)}
    for name, text in files.items():
        write_atomically(folder / name, text.encode())
    return [folder / name for name in files]
