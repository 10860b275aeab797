"""Networks and layers in time: latency, throughput, memory, and how far from the machine's ceilings."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mpvit.benchmark.baseline import Baseline
from mpvit.benchmark.modes import ENGINES
from mpvit.benchmark.results import LayerTime, NetworkTime, Result, ceiling_rows
from mpvit.benchmark.roofline import Ceilings
from mpvit.benchmark.study import Study
from mpvit.measurement import Interval, Measurement
from mpvit.measurement.estimates import paired_ratio
from mpvit.measurement.machine import environment
from mpvit.tables import Document, Field, Table, build
from mpvit.tables.measured import interval_text, milliseconds, number_text, quartiles, warnings
from mpvit.units import times

_SHOWN_LAYERS = 25
_WAYS = 3
"""Modes from which on it is worth saying which is the fastest."""


def benchmark_document(study: Study, results: Sequence[Result], baseline: Baseline | None = None) -> Document:
    """Return the networks' times, each network's slowest layers if there are any, and what to know about them."""
    networks = [result for result in results if isinstance(result, NetworkTime)]
    layers: dict[tuple[object, ...], list[LayerTime]] = {}
    for result in results:
        if isinstance(result, LayerTime):
            layers.setdefault((result.model, result.input_shape), []).append(result)
    measured = networks[0].timed.measurement
    ceilings = networks[0].timed.ceilings
    where = f"{measured.device}, {_threads(measured.threads)}, {measured.dtype}"
    fields = [f for f in _NETWORK if f.header not in _SPEEDUPS or any(f.read(result) for result in networks)]
    tables = [
        build(
            f"{f'{study.task.name}, ' if study.task else ''}{study.passes}, {times(study.size)} pixels, {where}",
            fields,
            networks,
        )
    ]
    if len(study.modes) >= _WAYS:
        tables += _fastest_tables(networks)
    tables += [_layer_table(group) for group in layers.values()]
    rows = ceiling_rows(ceilings)
    notes = [_ceiling_note(ceilings), *_speedup_notes(study, networks)]
    notes += [_layer_note(network, layers[network.model, network.input_shape]) for network in networks if layers]
    if baseline:
        notes += _baseline_notes(baseline, rows, measured)
    notes += [*_warnings(results, ceilings), *_left_out(study, networks)]
    return Document(
        "bench",
        (*rows, *(result.as_row() for result in results)),
        tuple(tables),
        tuple(notes),
        measured.device,
        measured.threads,
        measured.dtype,
    )


def _layer_table(layers: Sequence[LayerTime]) -> Table:
    """Return the layers of one network that take longest, and how much of them all that is."""
    slowest = sorted(layers, key=lambda layer: -(layer.total_s or 0))[:_SHOWN_LAYERS]
    sum_s = sum(layer.total_s or 0 for layer in layers) or 1

    def share(layer: LayerTime) -> str | None:
        return number_text(layer.total_s, ".1f", 100 / sum_s)

    title = f"{layers[0].model}, batch {layers[0].input_shape[0]}: the {len(slowest)} of {len(layers)} layers that take longest"
    fields = [f for f in _LAYER if f.header not in _SPEEDUPS or any(f.read(layer) for layer in slowest)]
    return build(title, [*fields[:5], Field("% time", share), *fields[5:]], slowest)


def _fastest_tables(networks: Sequence[NetworkTime]) -> list[Table]:
    """Return which mode is the fastest of each network and batch, and how far ahead of the next it is; none where none ran."""
    groups: dict[tuple[object, ...], list[NetworkTime]] = {}
    for network in networks:
        if network.timed.measurement.median_s is not None:
            groups.setdefault((network.model, network.input_shape), []).append(network)
    ordered = (sorted(group, key=lambda r: r.timed.measurement.median_s or 0) for group in groups.values())
    pairs = [(fastest, following) for fastest, following, *_ in (group for group in ordered if len(group) > 1)]
    return [build("the fastest mode of each network and batch", _FASTEST, pairs)] if pairs else []


def _lead(pair: tuple[NetworkTime, NetworkTime]) -> Interval:
    fastest, following = (network.timed.measurement.samples_s for network in pair)
    return paired_ratio(following, fastest)


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


_SPEEDUPS = ("speed-up", "over baseline", "")
_NETWORK: tuple[Field[NetworkTime], ...] = (
    Field("Model", lambda r: r.model, numeric=False),
    Field("Mode", lambda r: r.mode, numeric=False),
    Field("Batch", lambda r: r.input_shape[0]),
    Field("median ms", lambda r: milliseconds(r.timed.measurement.median_s)),
    Field("quartiles ms", lambda r: quartiles(r.timed.measurement), optional=True),
    Field("images/s", lambda r: number_text(r.images_per_s), optional=True),
    Field("peak MB", lambda r: number_text(r.timed.measurement.peak_bytes, factor=1e-6)),
    Field("GMAC/s", lambda r: number_text(r.timed.macs_per_s, factor=1e-9)),
    Field("% matmul", lambda r: number_text(r.timed.share_of_product, ".0f", 100)),
    Field("MACs/byte", lambda r: number_text(r.timed.work.intensity), optional=True),
    Field("GB/s moved", lambda r: number_text(r.timed.bytes_per_s, factor=1e-9), optional=True),
    Field("% roof", lambda r: number_text(r.timed.share_of_roof, ".0f", 100)),
    Field("speed-up", lambda r: interval_text(r.speedup)),
    Field("over baseline", lambda r: interval_text(r.baseline_speedup)),
    Field("", lambda r: (r.timed.measurement.error or r.timed.measurement.stopped).partition(":")[0], numeric=False),
)
_FASTEST: tuple[Field[tuple[NetworkTime, NetworkTime]], ...] = (
    Field("Model", lambda pair: pair[0].model, numeric=False),
    Field("Batch", lambda pair: pair[0].input_shape[0]),
    Field("Fastest", lambda pair: pair[0].mode, numeric=False),
    Field("median ms", lambda pair: milliseconds(pair[0].timed.measurement.median_s)),
    Field("Next", lambda pair: pair[1].mode, numeric=False),
    Field("ahead of it", lambda pair: interval_text(_lead(pair))),
)
_LAYER: tuple[Field[LayerTime], ...] = (
    Field("Layer", lambda r: r.part, numeric=False),
    Field("Kind", lambda r: r.kind, numeric=False, optional=True),
    Field("Input", lambda r: times(r.layer_input_shape), numeric=False, optional=True),
    Field("Calls", lambda r: r.calls),
    Field("one ms", lambda r: milliseconds(r.timed.measurement.median_s)),
    Field("GMAC/s", lambda r: number_text(r.timed.macs_per_s, factor=1e-9)),
    Field("MAC/byte", lambda r: number_text(r.timed.work.intensity)),
    Field("GB/s", lambda r: number_text(r.timed.bytes_per_s, factor=1e-9)),
    Field("% roof", lambda r: number_text(r.timed.share_of_roof, ".0f", 100)),
    Field("over baseline", lambda r: interval_text(r.baseline_speedup), optional=True),
)


def _ceiling_note(ceilings: Ceilings) -> str:
    product, copied = number_text(ceilings.macs_per_s, factor=1e-9), number_text(ceilings.bytes_per_s, factor=1e-9)
    return (
        f"Ceilings measured in this run: matrix product {product or 'unknown'} GMAC/s, copy {copied or 'unknown'} GB/s. MACs: "
        "closed form, convention exact; bytes: every operation's inputs, weights and outputs. % roof: the least time under "
        "both ceilings over the median; above 100 data came from a cache, a mode multiplies by another library than torch.mm, "
        "or the machine was busier at the ceilings."
    )


def _speedup_notes(study: Study, networks: Sequence[NetworkTime]) -> list[str]:
    notes = []
    if engines := [name for name in ENGINES if name in study.modes]:
        fused = ", in openvino-fused the fused one," if "openvino-fused" in engines else ""
        notes.append(
            f"{', '.join(engines)}: the plain network{fused} exported for each batch, with as many threads as torch; what "
            "memory they take, torch's allocator does not see."
        )
    if any(network.speedup for network in networks):
        notes.append(
            f"speed-up: median over interleaved rounds of the time of mode {study.modes[0]} over this mode's, with its 95 % "
            "interval; above 1 is faster."
        )
        if len(study.modes) >= _WAYS:
            notes.append("ahead of it: likewise, of the next mode's time over the fastest's.")
    differences = [network.difference for network in networks if network.difference]
    if differences:
        notes.append(
            "Outputs held against the plain network in float32 before timing: relative difference at most "
            f"{max(differences):.1e}."
        )
    return notes


def _layer_note(network: NetworkTime, layers: Sequence[LayerTime]) -> str:
    whole_s, sum_s = network.timed.measurement.median_s, sum(layer.total_s or 0 for layer in layers)
    share = f"{100 * sum_s / whole_s:.0f} %" if whole_s else "an unknown share"
    return (
        f"{network.model}, batch {network.input_shape[0]}: layers timed on their own, with warm caches, add up to {share} of "
        "the network's time; the rest lies between them (additions, concatenation, layout changes, pooling, cold caches)."
    )


def _baseline_notes(baseline: Baseline, ceilings: Sequence[Mapping[str, Any]], measured: Measurement) -> list[str]:
    """Say how the machine itself compares, and what else is different between the two runs."""
    ratios = {row["part"]: baseline.speedup(row) for row in ceilings}
    machine = ", ".join(f"{part} {interval_text(ratio)}" for part, ratio in ratios.items() if ratio)
    notes = ["over baseline: its median time over this run's, with its 95 % interval; above 1 is faster."]
    if machine:
        notes.append(f"The machine itself, over the baseline: {machine}. Where these are not 1, neither run is the cause.")
    now = environment(measured.device, measured.threads, measured.dtype)
    changed = [
        f"{name} {baseline.environment.get(name)} then, {now[name]} now" for name in now if _differs(baseline, now, name)
    ]
    return [*notes, f"Different from the baseline: {'; '.join(changed)}."] if changed else notes


def _differs(baseline: Baseline, now: Mapping[str, Any], name: str) -> bool:
    return baseline.environment.get(name) != now[name]


def _warnings(results: Sequence[Result], ceilings: Ceilings) -> Iterable[str]:
    measurements = [*(result.timed.measurement for result in results), ceilings.product, ceilings.copy]
    return warnings(measurements)


def _left_out(study: Study, networks: Sequence[NetworkTime]) -> Iterable[str]:
    """Say what was not measured, or not for as long as was asked, and why."""
    for network in networks:
        reason = network.timed.measurement.error or network.timed.measurement.stopped
        if reason:
            taken = len(network.timed.measurement.samples_s)
            samples = f", after {taken} samples" if taken else ""
            yield f"{network.model}, {network.mode}, batch {network.input_shape[0]}{samples}: {reason}"
    begun = {(network.model, network.input_shape) for network in networks}
    missing = [f"{name} batch {shape[0]}" for name, shape in study.groups if (name, shape) not in begun]
    if missing:
        yield f"not measured: {', '.join(missing)}"
