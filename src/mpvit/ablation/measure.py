"""The latency of each row, against the baseline timed in the same rounds; and rows matched to the baseline's latency."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

import torch

from mpvit.ablation.match import TOLERANCE
from mpvit.ablation.results import Row
from mpvit.ablation.study import baseline_row, edited, edited_row, matched_row
from mpvit.benchmark.modes import forward
from mpvit.benchmark.roofline import least_bytes
from mpvit.closed_form import network
from mpvit.counting import input_shape
from mpvit.errors import MpvitError, UsageError
from mpvit.measurement.estimates import paired_ratio
from mpvit.measurement.machine import shortage
from mpvit.measurement.timing import Case, configured, error_text, run
from mpvit.model.network import MPViT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mpvit.ablation.study import Study
    from mpvit.measurement.options import TimingOptions

_SEED = 0
TRIALS = 6
"""Networks that are timed to meet the baseline's latency; the first has its MACs."""


def measured_rows(study: Study, timing: TimingOptions) -> Iterator[Row]:
    """Yield the baseline and then each row with its time, as they are measured.

    A row without samples says why in its time. Raises ``KeyboardInterrupt`` after the row that it cut short. While it
    runs, torch has ``timing.threads`` threads; torch's random state is left as it was.
    """
    with configured(timing):
        baseline = timed_row(study, timing, baseline_row(study))
        edited_rows = (_edited_row(study, timing, baseline, values) for values in study.grid)
        for row in chain([baseline], edited_rows):
            yield row
            if row.time and row.time.interrupted:
                raise KeyboardInterrupt


def _edited_row(study: Study, timing: TimingOptions, baseline: Row, values: Mapping[str, str]) -> Row:
    if study.match == "latency":
        return _latency_row(study, timing, baseline, values)
    row = edited_row(study, baseline, values)
    return row if row.error else timed_row(study, timing, row, baseline)


def _latency_row(study: Study, timing: TimingOptions, baseline: Row, values: Mapping[str, str]) -> Row:
    """Return the row whose latency is nearest the baseline's, of ``TRIALS`` networks at most.

    Latency rises with the work, though not in proportion: the first network has the baseline's MACs, each other those of
    the one before over its latency ratio. A row that stays more than ``TOLERANCE`` away is refused.
    """
    assert baseline.cost is not None  # noqa: S101 - a baseline is never refused
    budget = baseline.cost.macs
    trials: list[float] = []
    try:
        subject = edited(study, values)
        while len(trials) < TRIALS:
            row = timed_row(study, timing, matched_row(study, values, subject, budget, "macs"), baseline)
            if row.matched is None or row.latency_ratio is None or (row.time and row.time.interrupted):
                return row
            off = row.latency_ratio.estimate - 1
            if abs(off) <= TOLERANCE:
                return replace(row, matched=replace(row.matched, quantity="latency", off=off))
            trials.append(off)
            budget = round(budget / row.latency_ratio.estimate)
    except UsageError as error:
        return Row(values=values, size=study.size, error=str(error))
    nearest = f"latency: the nearest of {TRIALS} networks is {100 * min(trials, key=abs):+.1f} % from the baseline's"
    return Row(values=values, size=study.size, error=nearest)


def timed_row(study: Study, timing: TimingOptions, row: Row, baseline: Row | None = None) -> Row:
    """Return the row with its latency and, where ``baseline`` is given, its ratio over that one's in the same rounds."""
    rows = {"row": row} if baseline is None else {"row": row, "baseline": baseline}
    cases: dict[str, Case] = {}
    try:
        for name, each in rows.items():
            cases[name] = _case(study, timing, each)
    except (MpvitError, MemoryError, RuntimeError) as error:
        return replace(row, time=timing.unmeasured("row", error=error_text(error)))
    own, *others = run(cases, device=timing.device, dtype=timing.dtype, min_time_s=timing.min_time_s)
    ratios = [paired_ratio(own.samples_s, other.samples_s) for other in others if own.samples_s and other.samples_s]
    return replace(row, time=own, latency_ratio=ratios[0] if ratios else None)


def _case(study: Study, timing: TimingOptions, row: Row) -> Case:
    """Return a forward pass, run once, of the row's network with seeded weights.

    Raises ``MpvitError`` where it would not fit, and what torch raises where it cannot run.
    """
    assert row.config is not None  # noqa: S101 - refused rows are not timed
    if short := shortage(least_bytes(network(row.config, study.batch, *row.size), timing.element_dtype), timing.device):
        raise MpvitError(short)
    torch.manual_seed(_SEED)
    dtype = getattr(torch, timing.element_dtype)
    model = MPViT(row.config).eval().to(timing.device, dtype)
    images = torch.randn(input_shape(row.config, row.size, study.batch)).to(timing.device, dtype)
    call = forward(model, images)
    call()
    return call
