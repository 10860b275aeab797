"""A report as JSON and back: one flat list of rows, each with the name of its table and the fields of its result.

In an ablation, the cost of each part of a network is saved as a list, in the order of the fields of ``Cost``.
"""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import msgspec

from mpvit.errors import UsageError, file_reason
from mpvit.operations import Cost
from mpvit.render.json import SCHEMA_VERSION
from mpvit.report.results import Report

FILE = "report.json"
COMMAND = "report"

_TABLES = {field.name: field.name for field in fields(Report) if field.name != "environment"} | {
    "stage_tokens": "met",
    "path_views": "sights",
}
"""Name of the table in JSON by the field of ``Report``."""

_HINT = "choose a folder that mpvit report has written"
_AGAIN = "make it again with mpvit report"


def to_json(report: Report) -> str:
    """Return the report as JSON, at full precision; ``from_json`` reads it."""
    rows = [{"table": table, **_saved(result)} for field, table in _TABLES.items() for result in getattr(report, field)]
    head = {"schema_version": SCHEMA_VERSION, "command": COMMAND, "environment": dict(report.environment)}
    return json.dumps({**head, "results": rows}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _saved(value: Any) -> Any:  # noqa: ANN401 - any part of a result
    """Return a result as JSON can hold it, without fields that are None by default and in fact."""
    if is_dataclass(value):
        named = {each: getattr(value, each.name) for each in fields(value)}
        row = {each.name: _saved(field) for each, field in named.items() if not (each.default is None and field is None)}
        if "parts" in row:
            row["parts"] = {part: list(cost.values()) for part, cost in row["parts"].items()}
        return row
    if isinstance(value, Mapping):
        return {name: _saved(each) for name, each in value.items()}
    return [_saved(each) for each in value] if isinstance(value, tuple | list) else value


def read_report(folder: Path) -> Report:
    """Read the report in ``folder``; raise ``UsageError`` if it is missing, damaged or of another version."""
    path = folder / FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # a ValueError for bytes that are not UTF-8, or a NUL in the name
        raise UsageError(f"cannot read {str(path)!r}: {file_reason(error)}", hint=_HINT) from None
    try:
        return from_json(text)
    except UsageError as error:
        raise UsageError(f"{str(path)!r}: {error}", hint=error.hint or _HINT) from None


def from_json(text: str) -> Report:
    """Return the report that ``to_json`` wrote; raise ``UsageError`` that names what is wrong with any other text."""
    try:
        content = _read(text)
    except (ValueError, RecursionError):
        raise UsageError("not JSON, or cut off") from None
    if not isinstance(content, dict) or content.get("command") != COMMAND:
        raise UsageError("not a result of mpvit report")
    if content.get("schema_version") != SCHEMA_VERSION:
        version = repr(content.get("schema_version"))[:40]
        raise UsageError(f"schema_version = {version}: must be {SCHEMA_VERSION}", hint=_AGAIN)
    rows, environment = content.get("results"), content.get("environment")
    if not isinstance(rows, list) or not isinstance(environment, dict):
        raise UsageError("results must be a list of rows, environment an object")
    try:
        report = msgspec.convert({"environment": environment, **_by_field(rows)}, Report)
    except msgspec.ValidationError as error:
        raise UsageError(str(error)) from None
    if _read(to_json(report)) != content:  # an unknown field, or a row out of order
        raise UsageError("holds what this version of mpvit does not write", hint=_AGAIN)
    return report


def _by_field(rows: list[Any]) -> dict[str, list[Any]]:
    """Return the rows of each field of ``Report``; raise ``UsageError`` for an unknown table."""
    names = {table: field for field, table in _TABLES.items()}
    found: dict[str, list[Any]] = {}
    for index, row in enumerate(rows):
        table = row.get("table") if isinstance(row, dict) else None
        if not isinstance(table, str) or table not in names:
            raise UsageError(f"results[{index}]: must have a table of {', '.join(names)}")
        found.setdefault(names[table], []).append(row)
    return found


def _read(text: str) -> Any:  # noqa: ANN401 - any JSON
    return json.loads(text, parse_constant=_refuse, object_hook=_with_named_costs)


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _with_named_costs(saved: dict[str, Any]) -> dict[str, Any]:
    """Return an object with the costs of its parts as mappings; a list of another length stays, for msgspec to refuse."""
    names, parts = Cost.figures(), saved.get("parts")
    if isinstance(parts, dict):
        costs = {part: cost for part, cost in parts.items() if isinstance(cost, list) and len(cost) == len(names)}
        saved["parts"] = parts | {part: dict(zip(names, cost, strict=True)) for part, cost in costs.items()}
    return saved
