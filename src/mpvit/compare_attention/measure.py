"""Attention as the number of tokens grows, measured: time and memory of each kind on this machine.

The kinds are timed side by side at one N, then at the next larger N, so that a disturbance of the machine affects all kinds.
A case that exceeds the memory or the budget is left out with the reason. A kind that ran out of memory is not tried at a
larger N.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from math import inf, prod

import torch

from mpvit.attention import Sizes, get_kind, grid_of
from mpvit.compare_attention.costs import attention_cost
from mpvit.compare_attention.numerics import random_inputs, relative_error
from mpvit.compare_attention.results import AttentionPoint
from mpvit.errors import CheckError, unknown_name
from mpvit.measurement import BUDGET, Measurement
from mpvit.measurement.machine import shortage
from mpvit.measurement.options import TimingOptions
from mpvit.measurement.timing import configured, error_text, out_of_memory, run
from mpvit.units import ITEM_BYTES

MIN_TIME_S = 0.25
"""Minimum time of the samples of one kind at one N that ``mpvit compare-attn`` takes, in seconds."""

_CHECKED_TOKENS = 1024
"""Largest N at which a kind is compared with float64 before it is timed: above it, float64 needs too much memory."""

_TOLERANCES = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 2e-2}
"""Largest relative error of each dtype: the norm of the difference from float64 over the norm."""

_MIN_CALLS = 9
"""Minimum number of calls of one kind at one N: the check, the warm-up, the peak memory and the samples."""

_BUDGET_SHARE = 0.25
"""Largest share of the budget for one kind at one N: a slow kind must leave time for the others at larger N."""

_MIN_BUDGET_S = 1e-3

_FORWARD_COPIES, _BACKWARD_COPIES = 3, 6
"""Number of largest tensors held at once: scores, their exponentials and one being written; and their gradients."""


def measure_attention(
    names: Sequence[str], sizes: Sizes, tokens: Sequence[int], options: TimingOptions
) -> Iterator[AttentionPoint]:
    """Yield one point for each N, smallest first, and kind as it is measured, for one image with the channels of ``sizes``.

    A point without samples has the reason in its ``error`` or ``stopped``. Raises ``UsageError`` for the dtype tf32,
    ``CheckError`` for a kind whose error against float64 is too large for its dtype, and ``KeyboardInterrupt`` after the
    points of an interrupted N.
    """
    if options.dtype not in _TOLERANCES:
        raise unknown_name("dtype", options.dtype, _TOLERANCES)
    deadline = time.perf_counter() + (inf if options.budget_s is None else options.budget_s)
    given_up: dict[str, Measurement] = {}
    last: dict[str, AttentionPoint] = {}
    with configured(options):
        for height, width in map(grid_of, sorted(tokens)):
            at = sizes._replace(batch=1, height=height, width=width)
            cases: dict[str, Callable[[], object]] = {}
            for name in names:
                case = (
                    given_up.get(name) or _too_slow(name, at, options, last.get(name)) or _prepare(name, at, options, deadline)
                )
                if isinstance(case, Measurement):
                    given_up[name] = case
                    yield AttentionPoint(attention_cost(name, at), case)
                else:
                    cases[name] = case
            measured = _run(cases, options, deadline)
            for measurement in measured:
                if measurement.error or not measurement.samples_s:
                    given_up[measurement.name] = measurement
                last[measurement.name] = point = AttentionPoint(attention_cost(measurement.name, at), measurement)
                yield point
            if any(measurement.interrupted for measurement in measured):
                raise KeyboardInterrupt


def _run(cases: dict[str, Callable[[], object]], options: TimingOptions, deadline: float) -> tuple[Measurement, ...]:
    budget_s = None if options.budget_s is None else max(deadline - time.perf_counter(), _MIN_BUDGET_S)
    return run(cases, device=options.device, dtype=options.dtype, min_time_s=options.min_time_s, budget_s=budget_s)


def _too_slow(name: str, sizes: Sizes, options: TimingOptions, last: AttentionPoint | None) -> Measurement | None:
    """Return a measurement without samples if ``name`` would take too much of the budget, by its last time and its cost."""
    if options.budget_s is None or last is None or last.measurement.median_s is None:
        return None
    growth = attention_cost(name, sizes).macs / last.cost.macs
    expected_s = _MIN_CALLS * growth * last.measurement.median_s
    if expected_s <= _BUDGET_SHARE * options.budget_s:
        return None
    return options.unmeasured(name, stopped=f"more than a quarter of the time budget: it would take about {expected_s:.0f} s")


def _prepare(name: str, sizes: Sizes, options: TimingOptions, deadline: float) -> Callable[[], object] | Measurement:
    """Return a call to time, or a measurement without samples that gives the reason why there is none."""
    if time.perf_counter() >= deadline:
        return options.unmeasured(name, stopped=BUDGET)
    kind, option = get_kind(name)
    copies = _BACKWARD_COPIES if options.backward else _FORWARD_COPIES
    largest = max(kind.extra_elements(sizes._replace(option=option)), prod(sizes.per_head))
    if short := shortage(copies * largest * ITEM_BYTES[options.dtype], options.device):
        return options.unmeasured(name, error=short)
    try:
        return _checked_case(name, sizes._replace(option=option), options)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return options.unmeasured(name, error=error_text(error))


def _checked_case(name: str, sizes: Sizes, options: TimingOptions) -> Callable[[], object]:
    """Return a call of the kind on random inputs; first compare it with float64 if that fits into the memory."""
    kind, _ = get_kind(name)
    dtype: torch.dtype = getattr(torch, options.dtype)
    inputs, own = random_inputs(name, sizes)
    query, key, value = (tensor.to(options.device, dtype) for tensor in inputs)
    learned = {label: tensor.to(options.device, dtype) for label, tensor in own.items()}

    @torch.inference_mode()
    def forward() -> object:
        return kind.attend(query, key, value, sizes, learned)

    def forward_and_backward() -> object:
        given = [tensor.detach().requires_grad_() for tensor in (query, key, value)]
        output = kind.attend(given[0], given[1], given[2], sizes, learned)
        return torch.autograd.grad(output, given, torch.ones_like(output), allow_unused=True)

    if sizes.tokens <= _CHECKED_TOKENS:
        error, tolerance = relative_error(kind, query, key, value, learned, sizes), _TOLERANCES[options.dtype]
        if not error <= tolerance:
            raise CheckError(
                f"{name} attention over {sizes.tokens} tokens in {options.dtype}: its relative error against float64 is "
                f"{error:.1e}, must be at most {tolerance:g}; it is not timed"
            )
    return forward_and_backward if options.backward else forward
