"""Attention as the number of tokens grows, measured: time and memory of each kind on this machine.

Kinds are timed side by side at one N, then at the next larger, so that what disturbs the machine disturbs all of them.
What would not fit into memory or the budget is left out, with the reason; a kind that ran out of memory is not tried
at a larger N.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import torch

from mpvit.attention import Sizes, get_kind, grid_of
from mpvit.compare_attention.costs import attention_cost
from mpvit.compare_attention.numerics import draw, relative_error
from mpvit.compare_attention.results import AttentionPoint
from mpvit.devices import parse_device
from mpvit.errors import CheckError, UsageError, unknown_name
from mpvit.measurement import BUDGET, OUT_OF_MEMORY, Measurement, require_threads
from mpvit.measurement.machine import free_bytes
from mpvit.measurement.timing import cpu_threads, memory_error_text, out_of_memory, run

_CHECKED_TOKENS = 1024
"""Up to this N a kind is held against float64 before it is timed: beyond, full attention in float64 fills the memory."""

_TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 2e-2}
"""How far from float64 each dtype's arithmetic may be: the norm of the difference over the norm."""

_MIN_TIME_S = 0.25
_CALLS = 9
"""Of one kind at one N, at least: a check, warm-up, one for its memory, and the samples."""

BUDGET_SHARE = "more than a quarter of the time budget"

_LARGEST_SHARE = 0.25
"""Of the budget, that one kind may take at one N: a slow kind must not keep the others from larger N."""

_FORWARD_COPIES, _BACKWARD_COPIES = 3, 6
"""Tensors of the largest size that are held at once: scores, their exponentials, one being written; and their gradients."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How attention is measured: the longest total time, where and in what, forward alone or with its backward pass.

    ``threads`` are CPU threads, None for torch's choice; one is steadier where other programs run.
    """

    budget_s: float = 60
    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    backward: bool = False
    threads: int | None = None


def parse_setting(*, budget_s: float, device: str, dtype: str, backward: bool, threads: int | None = None) -> Setting:
    """Return the setting that words describe; raise ``UsageError`` for a time, device or dtype that does not exist."""
    if not 0 < budget_s < float("inf"):
        raise UsageError(f"budget = {budget_s}: must be above 0 seconds")
    kinds = {str(kind).removeprefix("torch."): kind for kind in _TOLERANCES}
    if dtype not in kinds:
        raise unknown_name("dtype", dtype, kinds)
    require_threads(threads)
    return Setting(budget_s, str(parse_device(device)), kinds[dtype], backward, threads)


def measure(names: Sequence[str], sizes: Sizes, tokens: Sequence[int], setting: Setting) -> Iterator[AttentionPoint]:
    """Yield one point for each N and kind as it is measured, the smallest N first, for one image of ``sizes``' widths.

    A point without samples says why in its ``error`` or ``stopped``. Raises ``CheckError`` for a kind that is further from
    float64 than its dtype's arithmetic explains, ``KeyboardInterrupt`` after the points of an interrupted N.
    """
    end = time.perf_counter() + setting.budget_s
    given_up: dict[str, Measurement] = {}
    before: dict[str, AttentionPoint] = {}
    for n in sorted(tokens):
        height, width = grid_of(n)
        at = sizes._replace(batch=1, height=height, width=width)
        cases: dict[str, Callable[[], object]] = {}
        for name in names:
            case = given_up.get(name) or _too_slow(name, at, setting, before.get(name)) or _prepare(name, at, setting, end)
            if isinstance(case, Measurement):
                given_up[name] = case
                yield AttentionPoint(attention_cost(name, at), case)
            else:
                cases[name] = case
        remaining_s = max(end - time.perf_counter(), 1e-3)
        dtype = str(setting.dtype).removeprefix("torch.")
        with cpu_threads(setting.threads):
            measured = run(cases, device=setting.device, dtype=dtype, min_time_s=_MIN_TIME_S, budget_s=remaining_s)
        for measurement in measured:
            if measurement.error or not measurement.samples_s:
                given_up[measurement.name] = measurement
            before[measurement.name] = point = AttentionPoint(attention_cost(measurement.name, at), measurement)
            yield point
        if any(measurement.interrupted for measurement in measured):
            raise KeyboardInterrupt


def _too_slow(name: str, sizes: Sizes, setting: Setting, before: AttentionPoint | None) -> Measurement | None:
    """Return why ``name`` is not tried at ``sizes``: by its last time and its cost, it would take too much of the budget."""
    if before is None or before.measurement.median_s is None:
        return None
    growth = attention_cost(name, sizes).macs / before.cost.macs
    expected_s = _CALLS * growth * before.measurement.median_s
    if expected_s <= _LARGEST_SHARE * setting.budget_s:
        return None
    return _unmeasured(name, setting, stopped=f"{BUDGET_SHARE}: it would take about {expected_s:.0f} s")


def _prepare(name: str, sizes: Sizes, setting: Setting, end: float) -> Callable[[], object] | Measurement:
    """Return what to time or, as a measurement without samples, why it will not be."""
    if time.perf_counter() >= end:
        return _unmeasured(name, setting, stopped=BUDGET)
    kind, option = get_kind(name)
    copies = _BACKWARD_COPIES if setting.backward else _FORWARD_COPIES
    largest = max(kind.extra_elements(sizes._replace(option=option)), prod(sizes.per_head))
    needed = copies * largest * setting.dtype.itemsize
    free = free_bytes(setting.device)
    if needed > free:
        return _unmeasured(name, setting, error=f"{OUT_OF_MEMORY}: needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free")
    try:
        return _checked_case(name, sizes._replace(option=option), setting)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return _unmeasured(name, setting, error=memory_error_text(error))


def _checked_case(name: str, sizes: Sizes, setting: Setting) -> Callable[[], object]:
    """Return a call of the kind on random inputs, after holding it against float64 where that fits."""
    kind, _ = get_kind(name)
    inputs, own = draw(name, sizes)
    query, key, value = (tensor.to(setting.device, setting.dtype) for tensor in inputs)
    learned = {label: tensor.to(setting.device, setting.dtype) for label, tensor in own.items()}

    def forward() -> object:
        with torch.inference_mode():
            return kind.attend(query, key, value, sizes, learned)

    def forward_and_backward() -> object:
        given = [tensor.detach().requires_grad_() for tensor in (query, key, value)]
        output = kind.attend(given[0], given[1], given[2], sizes, learned)
        return torch.autograd.grad(output, given, torch.ones_like(output), allow_unused=True)

    if sizes.tokens <= _CHECKED_TOKENS:
        error = relative_error(kind, query, key, value, learned, sizes)
        if not error <= _TOLERANCES[setting.dtype]:
            raise CheckError(
                f"{name} attention over {sizes.tokens} tokens in {setting.dtype} is {error:.1e} from float64, "
                f"more than {_TOLERANCES[setting.dtype]:g}: it was not timed"
            )
    return forward_and_backward if setting.backward else forward


def _unmeasured(name: str, setting: Setting, *, error: str = "", stopped: str = "") -> Measurement:
    dtype = str(setting.dtype).removeprefix("torch.")
    threads = torch.get_num_threads()
    return Measurement(name=name, device=setting.device, dtype=dtype, threads=threads, error=error, stopped=stopped)
