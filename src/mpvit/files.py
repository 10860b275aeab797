"""Files that are written completely or not at all, and JSON files that are read by a schema."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from mpvit.errors import MpvitError, UsageError, file_reason

Content = TypeVar("Content")


def read_json(path: Path, schema: type[Content], what: str, hint: str) -> Content:
    """Return the JSON in ``path`` as ``schema``, a type of msgspec; ``what`` names such a file in an error.

    Raises ``UsageError`` for a file that cannot be read or has other content.
    """
    import msgspec

    try:
        return msgspec.json.decode(path.read_bytes(), type=schema)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # RecursionError: too many nested brackets
        raise UsageError(f"{str(path)!r} is not {what}: {file_reason(error)}", hint=hint) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UsageError(f"cannot read {str(path)!r}: {file_reason(error)}", hint=hint) from None


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
