"""An earlier run of ``mpvit bench``, read from its JSON file, with which a new run is compared."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from mpvit.benchmark.results import Result
from mpvit.benchmark.study import BenchmarkStudy
from mpvit.errors import UsageError
from mpvit.files import read_json
from mpvit.measurement import Interval
from mpvit.measurement.estimates import independent_ratio


class _Key(msgspec.Struct, frozen=True, rename={"passes": "pass"}):
    """The columns that a row has in common with its counterpart in another run."""

    table: str | None = None
    model: str | None = None
    task: str | None = None
    classes: int | None = None
    proposals: int | None = None
    detections: int | None = None
    input_shape: tuple[int, ...] | None = None
    mode: str | None = None
    passes: str | None = None
    dtype: str | None = None
    part: str | None = None
    layer_input_shape: tuple[int, ...] | None = None


class _Row(_Key, frozen=True, kw_only=True):
    samples_s: tuple[Annotated[float, msgspec.Meta(gt=0)], ...]


class _File(msgspec.Struct):
    command: Literal["bench"]
    environment: dict[str, Any]
    results: list[_Row]


@dataclass(frozen=True, slots=True)
class Baseline:
    """An earlier run: the name of its file, its environment, and the samples of each row, in seconds per call."""

    name: str
    environment: Mapping[str, Any]
    samples_s: Mapping[_Key, tuple[float, ...]]

    def speedup(self, row: Mapping[str, Any]) -> Interval | None:
        """Return how many times faster ``row`` is than its counterpart in this run; None if either has no samples.

        The samples of two runs are not interleaved, so this is a ratio of medians, with every other difference of the runs.
        """
        before = self.samples_s.get(_key(row))
        return independent_ratio(before, row["samples_s"]) if before and row["samples_s"] else None


def read_baseline(path: Path, study: BenchmarkStudy) -> Baseline:
    """Read an earlier run; raise ``UsageError`` for another file, or one that has no row in common with ``study``."""
    run = read_json(path, _File, "a result of mpvit bench", "mpvit bench -o FILE.json writes such a file")
    baseline = Baseline(path.name, run.environment, {_key(row): row.samples_s for row in run.results})
    for network, batch in study.groups:
        task = network.task.as_row() if network.task else {}
        shape = list(network.input_shapes(batch)[0])
        row = {"table": "networks", "model": network.name, **task, "input_shape": shape, "pass": study.passes}
        if any(baseline.samples_s.get(_key({**row, "dtype": study.timing.dtype, "mode": mode})) for mode in study.modes):
            return baseline
    raise UsageError(
        f"baseline {path.name!r} has no row of the same model, batch, size, mode, pass and dtype as this run",
        hint="run mpvit bench with the options that wrote the baseline",
    )


def compared(result: Result, baseline: Baseline | None) -> Result:
    """Return ``result`` with its speed-up over ``baseline``, if there is a baseline and it has such a row."""
    return replace(result, baseline_speedup=baseline.speedup(result.as_row())) if baseline else result


def _key(row: object) -> _Key:
    return msgspec.convert(row, _Key, from_attributes=True)
