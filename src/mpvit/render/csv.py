"""CSV: the flat rows at full precision; a mapping becomes one column per key, a shape is joined by x, samples by blanks."""

import csv
import io
from typing import Any

from mpvit.tables import Document


def render(document: Document) -> str:
    """Return a header and one line per result; an absent value is an empty cell."""
    rows = [_flat(row) for row in document.results]
    header = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, header, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{key}": inner for key, inner in value.items()}
        elif isinstance(value, list):
            separator = " " if any(isinstance(item, float) for item in value) else "x"
            flat[name] = separator.join(str(item) for item in value)
        elif isinstance(value, bool):
            flat[name] = "true" if value else "false"
        else:
            flat[name] = value
    return flat
