"""What the benchmarks ran on, in one line."""

import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path


def facts() -> str:
    """Return the day, the processor and the versions; nothing that tells whose machine it is."""
    return (
        f"{datetime.now(UTC).date()}: {_processor()}, {os.cpu_count()} cores, {platform.system()}, "
        f"Python {platform.python_version()}, torch {version('torch')}"
    )


def _processor() -> str:
    found = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.*)$", found.read_text(), re.MULTILINE) if found.exists() else []
    return names[0] if names else platform.processor() or platform.machine()
