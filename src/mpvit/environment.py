"""What produced a result: versions, and for what ran a network the device, threads and dtype."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mpvit import __version__

_PACKAGES = ("torch", "fvcore", "thop", "numpy", "einops")


def environment(device: str | None = None, threads: int | None = None, dtype: str | None = None) -> dict[str, Any]:
    """Return the versions of what is installed; a closed-form answer has no device, threads or dtype."""
    packages = {name: found for name in _PACKAGES if (found := _version(name))}
    return {
        "mpvit": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        **packages,
        "device": device,
        "threads": threads,
        "dtype": dtype,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
