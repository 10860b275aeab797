"""The machine that a result comes from: installed versions and free memory."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mpvit.measurement import OUT_OF_MEMORY
from mpvit.version import __version__

_PACKAGES = ("torch", "fvcore", "thop", "numpy", "einops", "onnxruntime", "openvino")

_MEMINFO = Path("/proc/meminfo")
_KIBI = 1024


def environment(device: str | None = None, threads: int | None = None, dtype: str | None = None) -> dict[str, Any]:
    """Return the installed versions and the arguments; a closed-form result has no device, threads or dtype."""
    packages = {name: installed for name in _PACKAGES if (installed := _version(name))}
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


def free_bytes(device: str = "cpu") -> int:
    """Return the free memory of ``device``, in bytes.

    On a CUDA device, torch first gives back the memory that it caches. On any other device it is the main memory that is
    available without swapping: "MemAvailable" on Linux, elsewhere the free pages.
    """
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(device)[0]
    if _MEMINFO.exists():
        for line in _MEMINFO.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return _KIBI * int(line.split()[1])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def shortage(needed: int, device: str = "cpu") -> str:
    """Return an error text if ``device`` has less than ``needed`` bytes of free memory, else an empty string."""
    free = free_bytes(device)
    return f"{OUT_OF_MEMORY}: needs {needed / 1e9:.1f} GB or more, {free / 1e9:.1f} GB are free" if needed > free else ""
