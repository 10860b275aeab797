"""Files that are written completely or not at all."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mpvit.errors import MpvitError, file_reason


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``: a reader finds the old file or the complete new one, even after a failure.

    A link is followed. What is not a regular file (a device, a pipe) is written directly. Raises ``MpvitError``.
    """
    write_together({path: data})


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write several files as ``write_atomically`` does; none is replaced before all are complete."""
    staged: dict[Path, Path] = {}
    path = Path()
    try:
        for path, data in contents.items():
            target = path.resolve()
            if target.is_dir():
                raise IsADirectoryError(21, "it is a folder")
            if target.exists() and not target.is_file():
                target.write_bytes(data)
                continue
            handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:100]}.")
            staged[target] = Path(name)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            staged[target].chmod(_mode(target))
        for target, part in staged.items():
            path = target
            part.replace(target)
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop of links; ValueError: a NUL in the name
        hint = "make the folder first" if isinstance(error, FileNotFoundError) else "no half-written file is left"
        raise MpvitError(f"cannot write {str(path)!r}: {file_reason(error)}", hint=hint) from None
    finally:
        for part in staged.values():
            part.unlink(missing_ok=True)


def _mode(target: Path) -> int:
    """Return the permissions of a file, or those that a new one would get."""
    umask = os.umask(0)
    os.umask(umask)
    return target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~umask
