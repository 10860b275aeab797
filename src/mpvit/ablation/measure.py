"""The latency of each row, relative to the baseline in the same rounds; and rows that are matched in latency."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain

import torch

from mpvit.ablation.matching import TOLERANCE
from mpvit.ablation.results import Row
from mpvit.ablation.study import AblationStudy, baseline_row, edited_network, edited_row, matched_row
from mpvit.benchmark.modes import forward
from mpvit.benchmark.roofline import least_bytes
from mpvit.errors import MpvitError, UsageError
from mpvit.measurement.estimates import paired_ratio
from mpvit.measurement.machine import shortage
from mpvit.measurement.options import TimingOptions
from mpvit.measurement.timing import Case, configured, error_text, run
from mpvit.model.network import MPViT

_SEED = 0

MAX_TRIALS = 6
"""Maximum number of networks that are timed to match the latency of the baseline."""


def measure_rows(study: AblationStudy, timing: TimingOptions) -> Iterator[Row]:
    """Yield the baseline, then each row, with its time, as they are measured.

    A row without samples has the reason in its time. Raises ``KeyboardInterrupt`` after an interrupted row. Restores torch's
    settings and random state at the end.
    """
    with configured(timing):
        baseline = _timed_row(study, timing, baseline_row(study))
        rows = (_edited_row(study, timing, baseline, values) for values in study.grid)
        for row in chain([baseline], rows):
            yield row
            if row.time and row.time.interrupted:
                raise KeyboardInterrupt


def _edited_row(study: AblationStudy, timing: TimingOptions, baseline: Row, values: Mapping[str, str]) -> Row:
    if study.match == "latency":
        return _latency_row(study, timing, baseline, values)
    row = edited_row(study, baseline, values)
    return row if row.error else _timed_row(study, timing, row, baseline)


def _latency_row(study: AblationStudy, timing: TimingOptions, baseline: Row, values: Mapping[str, str]) -> Row:
    """Return the row whose latency is that of the baseline, found in at most ``MAX_TRIALS`` trials.

    The first network has the MACs of the baseline. The MACs of each other network are those of the network before it over its
    latency ratio. If no network is within ``TOLERANCE``, the row has an error instead.
    """
    assert baseline.cost is not None  # noqa: S101 - a baseline always has a network
    budget = baseline.cost.macs
    trials: list[float] = []
    try:
        network = edited_network(study, values)
        while len(trials) < MAX_TRIALS:
            row = _timed_row(study, timing, matched_row(study, values, network, budget, "macs"), baseline)
            if row.matched is None or row.latency_ratio is None or (row.time and row.time.interrupted):
                return row
            off = row.latency_ratio.estimate - 1
            if abs(off) <= TOLERANCE:
                return replace(row, matched=replace(row.matched, quantity="latency", off=off))
            trials.append(off)
            budget = round(budget / row.latency_ratio.estimate)
    except UsageError as error:
        return Row(values=values, size=study.size, error=str(error))
    nearest = f"latency: the nearest of {MAX_TRIALS} networks is {100 * min(trials, key=abs):+.1f} % from the baseline's"
    return Row(values=values, size=study.size, error=nearest)


def _timed_row(study: AblationStudy, timing: TimingOptions, row: Row, baseline: Row | None = None) -> Row:
    """Return the row with its latency and, if ``baseline`` is given, its latency ratio from the same rounds."""
    rows = {"row": row} if baseline is None else {"row": row, "baseline": baseline}
    try:
        cases = {name: _case(study, timing, each) for name, each in rows.items()}
    except (MpvitError, MemoryError, RuntimeError) as error:
        return replace(row, time=timing.unmeasured("row", error=error_text(error)))
    own, *others = run(cases, device=timing.device, dtype=timing.dtype, min_time_s=timing.min_time_s)
    ratios = [paired_ratio(own.samples_s, other.samples_s) for other in others if own.samples_s and other.samples_s]
    return replace(row, time=own, latency_ratio=ratios[0] if ratios else None)


def _case(study: AblationStudy, timing: TimingOptions, row: Row) -> Case:
    """Return a call of one forward pass of the network of a row with seeded weights, after calling it once.

    Raises ``MpvitError`` if the memory does not suffice, and errors of torch.
    """
    assert row.config is not None  # noqa: S101 - only rows with a network are timed
    network = replace(study.network, config=row.config, size=row.size)
    if short := shortage(least_bytes(network.tree(study.batch), timing.element_dtype), timing.device):
        raise MpvitError(short)
    torch.manual_seed(_SEED)
    dtype = getattr(torch, timing.element_dtype)
    model = MPViT(row.config).eval().to(timing.device, dtype)
    images = torch.randn(network.input_shapes(study.batch)[0]).to(timing.device, dtype)
    call = forward(model, images)
    call()
    return call
