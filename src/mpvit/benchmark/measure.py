"""Measurement of networks on this machine, together with the ceilings of the machine."""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from mpvit.benchmark.ceilings import measure_ceilings
from mpvit.benchmark.layers import LayerCase, layer_cases
from mpvit.benchmark.modes import LIBRARIES, MODES, build, forward, forward_and_backward
from mpvit.benchmark.results import LayerTime, NetworkTime, Result
from mpvit.benchmark.roofline import Ceilings, RooflinePoint, least_bytes, network_work
from mpvit.benchmark.study import BenchmarkStudy
from mpvit.errors import MpvitError
from mpvit.imports import missing, remedy
from mpvit.measurement import BUDGET, Measurement
from mpvit.measurement.estimates import paired_ratio
from mpvit.measurement.machine import shortage
from mpvit.measurement.options import TF32
from mpvit.measurement.timing import Case, configured, error_text, run
from mpvit.model.network import MPViT
from mpvit.network import NamedNetwork
from mpvit.operations import Block, Shape

TOLERANCES = {"float32": 1e-4, TF32: 5e-3, "bfloat16": 0.1, "float16": 0.02}
"""Largest relative difference (norm over norm) of the output in each dtype from that of the plain network in float32."""

_SEED = 0
_LAYER_TIME_SHARE = 0.05
"""Minimum time of each layer as a share of that of the network, which has some hundred layers."""

_MIN_BUDGET_S = 1e-3


def measure_networks(study: BenchmarkStudy) -> Iterator[tuple[Result, ...]]:
    """Yield the results of each network and batch size as they are measured: those of the modes, then those of the layers.

    A result without samples has the reason in its measurement. Raises ``KeyboardInterrupt`` after the results of an
    interrupted network. Restores torch's settings and random state at the end.
    """
    options, groups = study.timing, study.groups
    with configured(options):
        _initialise_device(torch.device(options.device), getattr(torch, options.element_dtype))
        start = time.perf_counter()
        budget_s = None if options.budget_s is None else options.budget_s / (len(groups) + 1)
        ceilings = measure_ceilings(options, budget_s)
        if ceilings.product.interrupted or ceilings.copy.interrupted:
            raise KeyboardInterrupt
        for index, (network, batch) in enumerate(groups):
            if options.budget_s is not None:
                budget_s = (start + options.budget_s - time.perf_counter()) / (len(groups) - index)
            results = _measure(study, network, batch, ceilings, budget_s)
            yield results
            if any(result.timed.measurement.interrupted for result in results):
                raise KeyboardInterrupt


def _initialise_device(device: torch.device, dtype: torch.dtype) -> None:
    """Run one convolution and matrix product, and wait for them: the first ones on a GPU may take many seconds."""
    images = torch.ones(1, 8, 8, 8, dtype=dtype, device=device)
    product = torch.nn.functional.conv2d(images, images, padding=4)[..., :8, :8] @ images
    product.sum().item()


def _measure(
    study: BenchmarkStudy, network: NamedNetwork, batch: int, ceilings: Ceilings, budget_s: float | None
) -> tuple[Result, ...]:
    """Time one network at one batch size in every mode and, if requested, each layer, all of them interleaved."""
    start, options = time.perf_counter(), study.timing
    if any(MODES[mode].compiled for mode in study.modes):
        torch.compiler.reset()  # otherwise it runs the ninth network as it is written: it keeps eight graphs of one forward
    tree, shape = network.tree(batch), network.input_shapes(batch)[0]
    cases = _prepare(study, network, shape, tree, budget_s)
    layers = {f"{index} {layer.part}": layer for index, layer in enumerate(cases.layers)}
    measured = run(
        cases.calls | {key: layer.call for key, layer in layers.items()},
        device=options.device,
        dtype=options.dtype,
        min_time_s=options.min_time_s * (_LAYER_TIME_SHARE if layers else 1),
        budget_s=None if budget_s is None else max(budget_s - (time.perf_counter() - start), _MIN_BUDGET_S),
    )
    times = {each.name: each for each in measured} | cases.unmeasured
    for mode in study.modes:
        if MODES[mode].engine:  # torch's allocator does not record its memory
            times[mode] = replace(times[mode], peak_bytes=None)
    work = network_work(tree, options.element_dtype, backward=options.backward)
    points = {mode: RooflinePoint(work, times[mode], ceilings) for mode in study.modes}
    layer_times = (
        LayerTime(
            model=network.name,
            input_shape=shape,
            part=layer.part,
            kind=layer.kind,
            layer_input_shape=layer.input_shape,
            calls=layer.calls,
            timed=RooflinePoint(layer.work, replace(times[key], name=layer.part), ceilings),
        )
        for key, layer in layers.items()
    )
    return *_network_times(study, network, shape, points, cases.differences), *layer_times


def _network_times(
    study: BenchmarkStudy,
    network: NamedNetwork,
    shape: Shape,
    points: Mapping[str, RooflinePoint],
    differences: Mapping[str, float],
) -> Iterator[NetworkTime]:
    first = study.modes[0]
    before = points[first].measurement.samples_s
    for mode, point in points.items():
        samples = point.measurement.samples_s
        compared = bool(mode != first and before and samples)
        yield NetworkTime(
            model=network.name,
            task=network.task,
            input_shape=shape,
            mode=mode,
            passes=study.passes,
            timed=point,
            difference=differences.get(mode),
            speedup=paired_ratio(before, samples) if compared else None,
            speedup_over=first if compared else None,
        )


@dataclass(slots=True)
class _Cases:
    """The cases of one network and batch size.

    Attributes:
        calls: call of each mode that can be timed.
        unmeasured: measurement without samples of each other mode.
        differences: relative difference of the output of each mode from that of the plain network.
        layers: the layers to time.
    """

    calls: dict[str, Case] = field(default_factory=dict)
    unmeasured: dict[str, Measurement] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)
    layers: list[LayerCase] = field(default_factory=list)


def _prepare(study: BenchmarkStudy, network: NamedNetwork, shape: Shape, tree: Block, budget_s: float | None) -> _Cases:
    cases, options = _Cases(), study.timing
    stopped = BUDGET if budget_s is not None and budget_s <= 0 else ""
    short = shortage(least_bytes(tree, options.element_dtype, backward=options.backward), options.device)
    if stopped or short:
        cases.unmeasured = {
            mode: options.unmeasured(mode, error="" if stopped else short, stopped=stopped) for mode in study.modes
        }
    else:
        with _errors_as_results(study, study.modes, cases):
            _build(study, network, shape, tree, cases)
    return cases


def _build(study: BenchmarkStudy, network: NamedNetwork, shape: Shape, tree: Block, cases: _Cases) -> None:
    """Build the network with seeded weights, and the call of each mode, whose output is compared with the plain one."""
    options = study.timing
    torch.manual_seed(_SEED)
    plain: Any = _plain(network, shape[0]).eval().to(options.device)
    images = torch.randn(shape).to(options.device)
    reference = forward(plain, images)().double()
    converted = images.to(getattr(torch, options.element_dtype))
    for name in study.modes:
        mode = MODES[name]
        if library := missing(*LIBRARIES[mode.engine]):
            cases.unmeasured[name] = options.unmeasured(name, stopped=f"{library} is not installed: {remedy(library)}")
            continue
        with _errors_as_results(study, [name], cases):
            built, inputs = build(mode, plain, images, converted.dtype), images if mode.engine else converted
            cases.differences[name] = _checked_difference(name, forward(built, inputs)(), reference, options.dtype)
            cases.calls[name] = (forward_and_backward if options.backward else forward)(built, inputs)
    if study.by == "layer" and cases.calls and isinstance(plain, MPViT):
        with _errors_as_results(study, study.modes, cases):
            cases.layers = layer_cases(plain.to(converted.dtype), converted, tree, options.element_dtype)


def _plain(network: NamedNetwork, batch: int) -> nn.Module:
    if network.task is None:
        return MPViT(network.config)
    from mpvit.benchmark.task_network import TaskNetwork

    return TaskNetwork(network, network.task, batch)


def _checked_difference(mode: str, output: Tensor, reference: Tensor, dtype: str) -> float:
    """Return the relative difference; raise ``MpvitError`` if it exceeds the tolerance of ``dtype``."""
    difference = float((output.double() - reference).norm() / reference.norm())
    if not difference <= TOLERANCES[dtype]:
        raise MpvitError(
            f"mode {mode}, {dtype}: the relative difference of the output from that of the plain network in float32 is "
            f"{difference:.1e}, must be at most {TOLERANCES[dtype]:g}; not timed"
        )
    return difference


@contextlib.contextmanager
def _errors_as_results(study: BenchmarkStudy, modes: Sequence[str], cases: _Cases) -> Iterator[None]:
    """Turn an error into measurements without samples of ``modes``, so that other modes and networks continue."""
    try:
        yield
    except (MpvitError, MemoryError, RuntimeError, ValueError) as error:
        for mode in modes:
            cases.calls.pop(mode, None)
            cases.unmeasured[mode] = study.timing.unmeasured(mode, error=error_text(error))
