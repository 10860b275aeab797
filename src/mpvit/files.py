"""Writing files whole or not at all."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mpvit.errors import MpvitError, file_reason


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` so that a reader sees the old file or the whole new one, whatever goes wrong.

    A link is followed, and what is no regular file (a device, a pipe) is written straight. Raises ``MpvitError``.
    """
    write_together({path: data})


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files that belong together, each as ``write_atomically`` does; none takes its place before all are whole."""
    staged: dict[Path, Path] = {}
    path = Path()
    try:
        for path, data in contents.items():
            target = path.resolve()
            if target.exists() and not target.is_file() and not target.is_dir():
                target.write_bytes(data)
            else:
                staged[target] = _staged(target, data)
        for target, part in staged.items():
            path = target
            part.replace(target)
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop of links; ValueError: a NUL in the name
        hint = "make the folder first" if isinstance(error, FileNotFoundError) else "nothing was left half-written"
        raise MpvitError(f"cannot write {str(path)!r}: {file_reason(error)}", hint=hint) from None
    finally:
        for part in staged.values():
            part.unlink(missing_ok=True)


def _staged(target: Path, data: bytes) -> Path:
    """Return a hidden file beside ``target`` that holds ``data``, with the mode that ``target`` has or would have."""
    if target.is_dir():
        raise IsADirectoryError(21, "it is a folder")
    umask = os.umask(0)
    os.umask(umask)
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~umask
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:100]}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).chmod(mode)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)
