"""JSON: the flat rows at full precision, with the environment that produced them."""

import json

from mpvit.measurement.machine import environment
from mpvit.tables import Document

SCHEMA_VERSION = 1


def render(document: Document) -> str:
    """Return one object: schema_version, command, environment, notes, results. Raises ``ValueError`` for NaN and Infinity."""
    content = {
        "schema_version": SCHEMA_VERSION,
        "command": document.command,
        "environment": environment(document.device, document.threads, document.dtype),
        "notes": list(document.notes),
        "results": list(document.results),
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
