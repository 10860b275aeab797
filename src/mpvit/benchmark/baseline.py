"""An earlier run of ``mpvit bench`` to hold a new one against: what ``-o FILE.json`` wrote, raw samples included."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

from mpvit.benchmark.results import Result
from mpvit.benchmark.study import Study
from mpvit.errors import UsageError
from mpvit.measurement import Interval
from mpvit.measurement.estimates import independent_ratio

_TASK = ("task", "classes", "proposals", "detections")
_KEY = ("table", "model", *_TASK, "input_shape", "mode", "pass", "dtype", "part", "layer_input_shape")
"""What a row of one run and its counterpart of another have in common."""

_HINT = "--compare takes a file that mpvit bench -o FILE.json has written"


@dataclass(frozen=True, slots=True)
class Baseline:
    """An earlier run: its file's name, its environment, and the samples of each row, in seconds per call."""

    name: str
    environment: Mapping[str, Any]
    samples_s: Mapping[str, tuple[float, ...]]

    def speedup(self, row: Mapping[str, Any]) -> Interval | None:
        """Return how many times faster ``row`` is than this run's counterpart; None where either has no samples.

        Their samples were not interleaved, so the ratio is of two medians: it holds whatever else changed between them.
        """
        before = self.samples_s.get(row_key(row))
        return independent_ratio(before, row["samples_s"]) if before and row["samples_s"] else None


def read_baseline(path: Path, study: Study) -> Baseline:
    """Read an earlier run; raise ``UsageError`` for a file that is none, or has nothing of what ``study`` measures."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read baseline {str(path)!r}: {error.strerror}", hint=_HINT) from None
    except (ValueError, RecursionError):  # not UTF-8, not JSON, or a thousand brackets deep
        raise UsageError(f"baseline {str(path)!r}: not JSON", hint=_HINT) from None
    if not isinstance(content, dict) or content.get("command") != "bench":
        raise UsageError(f"baseline {str(path)!r}: not a result of mpvit bench", hint=_HINT)
    rows, environment = content.get("results"), content.get("environment")
    if not isinstance(rows, list) or not isinstance(environment, dict) or not all(map(_is_row, rows)):
        raise UsageError(f"baseline {str(path)!r}: its rows are damaged, samples_s must be positive seconds", hint=_HINT)
    baseline = Baseline(path.name, environment, {row_key(row): tuple(row["samples_s"]) for row in rows})
    _require_common(baseline, study)
    return baseline


def row_key(row: Mapping[str, Any]) -> str:
    """Return what identifies a row across runs."""
    return json.dumps([row.get(name) for name in _KEY])


def compared(result: Result, baseline: Baseline | None) -> Result:
    """Return ``result`` with its speed-up over ``baseline``, if there is one and it has the result's counterpart."""
    return replace(result, baseline_speedup=baseline.speedup(result.as_row())) if baseline else result


def _is_row(row: object) -> bool:
    samples = row.get("samples_s") if isinstance(row, dict) else None
    return isinstance(samples, list) and all(_is_time(sample) for sample in samples)


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value) and value > 0


def _require_common(baseline: Baseline, study: Study) -> None:
    same = {"table": "networks", "pass": study.passes, "dtype": study.dtype} | (study.task.as_row() if study.task else {})
    wanted = [
        {**same, "model": name, "input_shape": list(shape), "mode": mode}
        for name, shape in study.groups
        for mode in study.modes
    ]
    if not any(baseline.samples_s.get(row_key(row)) for row in wanted):
        raise UsageError(
            f"baseline {baseline.name!r} has nothing in common with this run: no row of the same model, batch, size, mode, "
            "pass and dtype",
            hint="run mpvit bench with the options that wrote the baseline",
        )
