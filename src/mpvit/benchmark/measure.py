"""How fast networks run on this machine, and how far that is from what the machine can do."""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from mpvit.benchmark.ceilings import measure_ceilings
from mpvit.benchmark.layers import LayerCase, layer_cases
from mpvit.benchmark.modes import COMPILED, ENGINES, MODES, TF32, forward, forward_and_backward
from mpvit.benchmark.results import NetworkTime, Result
from mpvit.benchmark.roofline import Ceilings, Timed, least_bytes, network_work
from mpvit.benchmark.study import Study, batch_and_size
from mpvit.config import ModelConfig
from mpvit.errors import MpvitError, first_line
from mpvit.extras import missing, remedy
from mpvit.measurement import BUDGET, Measurement
from mpvit.measurement.estimates import paired_ratio
from mpvit.measurement.machine import shortage
from mpvit.measurement.timing import Case, cpu_threads, memory_error_text, out_of_memory, run
from mpvit.model.network import MPViT
from mpvit.operations import Block, Shape
from mpvit.registry import resolve

TOLERANCES = {"float32": 1e-4, TF32: 5e-3, "bfloat16": 0.1, "float16": 0.02}
"""How far, norm over norm, the output of each dtype may be from the plain network's in float32 before it is timed."""

_SEED = 0
_CEILING_SHARE = 0.5
"""Of the minimum time of a case, that each ceiling is measured for."""

_LAYER_SHARE = 0.05
"""Of the minimum time of a case, that each layer is measured for: a network has some hundred of them."""

_LEAST_BUDGET_S = 1e-3


def measure(study: Study) -> Iterator[tuple[Result, ...]]:
    """Yield the results of one network and batch after the other, each mode's first and then, if asked for, each layer's.

    A result without samples says why in its measurement. Raises ``KeyboardInterrupt`` after what an interrupted group
    has given. While it runs, torch has ``study.threads`` threads; torch's random state is left as it was.
    """
    groups, device, dtype = study.groups, torch.device(study.device), getattr(torch, study.items)
    forked = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    with cpu_threads(study.threads), forked, _products(tf32=study.dtype == TF32):
        _wake(device, dtype)
        start = time.perf_counter()
        budget_s = None if study.budget_s is None else study.budget_s / (len(groups) + 1)
        ceilings = measure_ceilings(device, dtype, _CEILING_SHARE * study.min_time_s, budget_s)
        if ceilings.product.interrupted or ceilings.copy.interrupted:
            raise KeyboardInterrupt
        for index, (name, shape) in enumerate(groups):
            if study.budget_s is not None:
                budget_s = (start + study.budget_s - time.perf_counter()) / (len(groups) - index)
            results = _measure_group(study, name, shape, ceilings, budget_s)
            yield results
            if any(result.timed.measurement.interrupted for result in results):
                raise KeyboardInterrupt


def _wake(device: torch.device, dtype: torch.dtype) -> None:
    """Run a product and a convolution once, before the clock starts: the first on a GPU may take many seconds."""
    images = torch.ones(1, 8, 8, 8, dtype=dtype, device=device)
    product = torch.nn.functional.conv2d(images, images, padding=4)[..., :8, :8] @ images
    product.sum().item()  # waits for the device


@contextlib.contextmanager
def _products(*, tf32: bool) -> Iterator[None]:
    """Let CUDA's convolutions and matrix products of float32 round to TF32, or keep them from it; the CPU's never do."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=tf32):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _measure_group(study: Study, name: str, shape: Shape, ceilings: Ceilings, budget_s: float | None) -> tuple[Result, ...]:
    """Time one network on one batch, in every mode and, if asked for, by layer, all of them interleaved."""
    start = time.perf_counter()
    if COMPILED.intersection(study.modes):
        torch.compiler.reset()  # it keeps eight graphs of one forward, and runs a ninth network as it is written
    tree = study.tree(name, shape)
    prepared = _prepare(study, study.models[name], shape, tree, budget_s)
    layers = {f"{index} {layer.part}": layer for index, layer in enumerate(prepared.layers)}
    measured = run(
        prepared.cases | {key: layer.call for key, layer in layers.items()},
        device=study.device,
        dtype=study.dtype,
        min_time_s=study.min_time_s * (_LAYER_SHARE if layers else 1),
        budget_s=None if budget_s is None else max(budget_s - (time.perf_counter() - start), _LEAST_BUDGET_S),
    )
    times = {each.name: replace(each, peak_bytes=None) if each.name in ENGINES else each for each in measured}
    times |= prepared.refused
    work = network_work(tree, study.items, backward=study.backward)
    results: list[Result] = []
    for mode in study.modes:
        difference = prepared.differences.get(mode)
        timed = Timed(work, times[mode], ceilings)
        result = NetworkTime(
            model=name,
            task=study.task,
            input_shape=shape,
            mode=mode,
            passes=study.passes,
            timed=timed,
            difference=difference,
        )
        results.append(_with_speedup(result, study.modes[0], times))
    for key, layer in layers.items():
        results.append(layer.timed(name, shape, replace(times[key], name=layer.part), ceilings))
    return tuple(results)


def _with_speedup(result: NetworkTime, first: str, times: Mapping[str, Measurement]) -> NetworkTime:
    before, now = times[first].samples_s, times[result.mode].samples_s
    if result.mode == first or not before or not now:
        return result
    return replace(result, speedup=paired_ratio(before, now), speedup_over=first)


@dataclass(slots=True)
class _Prepared:
    """What can be timed of a group, what cannot and why, and how far each mode's output is from the plain one's."""

    cases: dict[str, Case] = field(default_factory=dict)
    refused: dict[str, Measurement] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)
    layers: list[LayerCase] = field(default_factory=list)


def _prepare(study: Study, config: ModelConfig, shape: Shape, tree: Block, budget_s: float | None) -> _Prepared:
    prepared = _Prepared()
    short = shortage(least_bytes(tree, study.items, backward=study.backward), study.device)
    if budget_s is not None and budget_s <= 0:
        prepared.refused = {mode: _unmeasured(study, mode, stopped=BUDGET) for mode in study.modes}
    elif short:
        prepared.refused = {mode: _unmeasured(study, mode, error=short) for mode in study.modes}
    else:
        with _refusing(study, study.modes, prepared):
            _fill(study, config, shape, tree, prepared)
    return prepared


def _fill(study: Study, config: ModelConfig, shape: Shape, tree: Block, prepared: _Prepared) -> None:
    """Build the network, with seeded weights, and a case of each mode that gives the plain network's output."""
    torch.manual_seed(_SEED)
    plain = _built(study, config, shape).eval().to(study.device)
    images = torch.randn(shape).to(study.device)
    reference = forward(plain, images)().double()
    given = images.to(getattr(torch, study.items))
    for mode in study.modes:
        if library := missing(*ENGINES.get(mode, ())):
            prepared.refused[mode] = _unmeasured(study, mode, stopped=f"{library} is not installed: {remedy(library)}")
            continue
        with _refusing(study, [mode], prepared):
            changed, shown = resolve(MODES[mode])(plain, images, given.dtype), images if mode in ENGINES else given
            prepared.differences[mode] = _checked_difference(mode, forward(changed, shown)(), reference, study.dtype)
            prepared.cases[mode] = (forward_and_backward if study.backward else forward)(changed, shown)
    if study.by == "layer" and prepared.cases and isinstance(plain, MPViT):
        with _refusing(study, study.modes, prepared):
            prepared.layers = layer_cases(plain.to(given.dtype), given, tree, study.items)


def _built(study: Study, config: ModelConfig, shape: Shape) -> nn.Module:
    if study.task is None:
        return MPViT(config)
    from mpvit.benchmark.tasks import TaskNetwork

    return TaskNetwork(config, study.task, batch_and_size(shape))


def _checked_difference(mode: str, output: Tensor, reference: Tensor, dtype: str) -> float:
    """Return the relative difference; raise ``MpvitError`` where it is more than the dtype's arithmetic explains."""
    difference = float((output.double() - reference).norm() / reference.norm())
    if not difference <= TOLERANCES[dtype]:
        raise MpvitError(
            f"the output in mode {mode}, {dtype}, is {difference:.1e} from the plain network's in float32, "
            f"more than {TOLERANCES[dtype]:g}: not timed"
        )
    return difference


@contextlib.contextmanager
def _refusing(study: Study, modes: Sequence[str], prepared: _Prepared) -> Iterator[None]:
    """Turn what cannot be prepared into results with an error: other modes and networks go on."""
    try:
        yield
    except (MpvitError, MemoryError, RuntimeError, ValueError) as error:
        text = memory_error_text(error) if out_of_memory(error) else first_line(error)
        for mode in modes:
            prepared.cases.pop(mode, None)
            prepared.refused[mode] = _unmeasured(study, mode, error=text)


def _unmeasured(study: Study, mode: str, *, error: str = "", stopped: str = "") -> Measurement:
    threads = torch.get_num_threads()
    return Measurement(name=mode, device=study.device, dtype=study.dtype, threads=threads, error=error, stopped=stopped)
