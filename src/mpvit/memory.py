"""How much memory there is to use."""

import os
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_KIBI = 1024


def free_bytes() -> int:
    """Return the main memory, in bytes, that can be had without swapping: what Linux calls available, else what is free."""
    if _MEMINFO.exists():
        for line in _MEMINFO.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return _KIBI * int(line.split()[1])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
