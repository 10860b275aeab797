"""A report as JSON and back: one flat list of rows, each with the name of its table and the fields of its result.

What a part of an ablation's network costs is a list there, its figures in the order of ``Cost``.
"""

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

import msgspec

from mpvit.errors import UsageError
from mpvit.operations import Cost
from mpvit.render.json import SCHEMA_VERSION
from mpvit.report.results import Report

FILE = "report.json"
COMMAND = "report"

_MAY_LACK = {field.name for field in fields(Report) if field.default is not MISSING}

_HINT = "--from takes a folder that mpvit report -o DIR has written"


def to_json(report: Report) -> str:
    """Return the report as JSON, at full precision; ``from_json`` gives it back."""
    rows = [{"table": study, **_saved(result)} for study in _studies() for result in getattr(report, study)]
    content = {
        "schema_version": SCHEMA_VERSION,
        "command": COMMAND,
        "environment": dict(report.environment),
        "results": rows,
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_report(folder: Path) -> Report:
    """Read the report that ``folder`` holds; raise ``UsageError`` for one that is not there, damaged or of another version."""
    path = folder / FILE
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {str(path)!r}: {error.strerror}", hint=_HINT) from None
    except ValueError:  # not UTF-8, or a NUL in the name
        raise UsageError(f"{str(path)!r}: not JSON", hint=_HINT) from None
    try:
        return from_json(text)
    except UsageError as error:
        raise UsageError(f"{str(path)!r}: {error}", hint=error.hint or _HINT) from None


def from_json(text: str) -> Report:
    """Return the report that ``to_json`` wrote; raise ``UsageError`` naming what is wrong in any other text."""
    try:
        content = _read(text)
    except (ValueError, RecursionError):  # not JSON, or a thousand brackets deep
        raise UsageError("not JSON, or cut off") from None
    if not isinstance(content, dict) or content.get("command") != COMMAND:
        raise UsageError("not a result of mpvit report")
    if content.get("schema_version") != SCHEMA_VERSION:
        version = repr(content.get("schema_version"))[:40]
        raise UsageError(f"schema_version = {version}: must be {SCHEMA_VERSION}", hint="make it again with mpvit report")
    rows, environment = content.get("results"), content.get("environment")
    if not isinstance(rows, list) or not isinstance(environment, dict):
        raise UsageError("results must be a list of rows, environment an object")
    try:
        report = msgspec.convert({"environment": environment, **_by_study(rows)}, Report)
    except msgspec.ValidationError as error:
        raise UsageError(str(error)) from None
    if _read(to_json(report)) != content:  # a field by another name, which has a default, or a row out of order
        raise UsageError("holds what this version of mpvit does not write", hint="make it again with mpvit report")
    return report


def _by_study(rows: list[Any]) -> dict[str, list[Any]]:
    """Return each study's rows; raise ``UsageError`` for a row of none, and a study without any."""
    found: dict[str, list[Any]] = {study: [] for study in _studies()}
    for index, row in enumerate(rows):
        study = row.get("table") if isinstance(row, dict) else None
        if not isinstance(study, str) or study not in found:
            raise UsageError(f"results[{index}]: must have a table of {', '.join(found)}")
        found[study].append(row)
    for study, results in found.items():
        if not results and study not in _MAY_LACK:
            raise UsageError(f"results have no row of the table {study!r}")
    return found


def _read(text: str) -> Any:  # noqa: ANN401 - whatever the text holds
    return json.loads(text, parse_constant=_refuse, object_hook=_named)


def _saved(value: Any) -> Any:  # noqa: ANN401 - a result, or what is in one
    """Return a result as it is saved; a field that may be None and is, is left out."""
    if is_dataclass(value):
        read = {each.name: getattr(value, each.name) for each in fields(value)}
        left_out = {each.name for each in fields(value) if each.default is None and read[each.name] is None}
        found = {name: _saved(field) for name, field in read.items() if name not in left_out}
        if "parts" in found:
            found["parts"] = {part: list(cost.values()) for part, cost in found["parts"].items()}
        return found
    if isinstance(value, Mapping):
        return {name: _saved(each) for name, each in value.items()}
    return [_saved(each) for each in value] if isinstance(value, tuple | list) else value


def _named(saved: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that were saved; what is no list of figures is left for the check of types to name."""
    names, parts = Cost.figures(), saved.get("parts")
    if isinstance(parts, dict):
        costs = {part: cost for part, cost in parts.items() if isinstance(cost, list) and len(cost) == len(names)}
        saved["parts"] = parts | {part: dict(zip(names, cost, strict=True)) for part, cost in costs.items()}
    return saved


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _studies() -> list[str]:
    """Return the names of the studies: the fields of ``Report`` but for the environment."""
    return [field.name for field in fields(Report) if field.name != "environment"]
