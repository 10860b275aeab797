"""Networks and layers in time: latency, throughput, memory, and their distance from the ceilings of the machine."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mpvit.benchmark.baseline import Baseline
from mpvit.benchmark.modes import MODES
from mpvit.benchmark.results import LayerTime, NetworkTime, Result, ceiling_rows
from mpvit.benchmark.roofline import Ceilings
from mpvit.benchmark.study import BenchmarkStudy
from mpvit.measurement import Measurement
from mpvit.measurement.estimates import paired_ratio
from mpvit.measurement.machine import environment
from mpvit.tables import Document, Field, Table, build
from mpvit.tables.number_text import interval_text, median, number_text, quartiles, ran_on, trouble, warnings
from mpvit.units import times

_SHOWN_LAYERS = 25
_RANKED_MODES = 3
"""Number of modes from which a table names the fastest."""

_HIDDEN_IF_EMPTY = ("speed-up", "over baseline", "")
_NETWORK: tuple[Field[NetworkTime], ...] = (
    Field("Model", lambda r: r.model, numeric=False),
    Field("Mode", lambda r: r.mode, numeric=False),
    Field("Batch", lambda r: r.input_shape[0]),
    Field("median ms", lambda r: median(r.timed.measurement)),
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
    Field("", lambda r: trouble(r.timed.measurement).partition(":")[0], numeric=False),
)
_LAYER: tuple[Field[LayerTime], ...] = (
    Field("Layer", lambda r: r.part, numeric=False),
    Field("Kind", lambda r: r.kind, numeric=False, optional=True),
    Field("Input", lambda r: times(r.layer_input_shape), numeric=False, optional=True),
    Field("Calls", lambda r: r.calls),
    Field("one ms", lambda r: median(r.timed.measurement)),
    Field("GMAC/s", lambda r: number_text(r.timed.macs_per_s, factor=1e-9)),
    Field("MAC/byte", lambda r: number_text(r.timed.work.intensity)),
    Field("GB/s", lambda r: number_text(r.timed.bytes_per_s, factor=1e-9)),
    Field("% roof", lambda r: number_text(r.timed.share_of_roof, ".0f", 100)),
    Field("over baseline", lambda r: interval_text(r.baseline_speedup), optional=True),
)


def benchmark_document(study: BenchmarkStudy, results: Sequence[Result], baseline: Baseline | None = None) -> Document:
    """Return the time of each network and, where layers were timed, the slowest layers of each; with notes on the run."""
    networks = [result for result in results if isinstance(result, NetworkTime)]
    layers: dict[tuple[object, ...], list[LayerTime]] = {}
    for result in results:
        if isinstance(result, LayerTime):
            layers.setdefault((result.model, result.input_shape), []).append(result)
    tables = [_network_table(study, networks)]
    if len(study.modes) >= _RANKED_MODES:
        tables += _fastest_tables(networks)
    tables += [_layer_table(group) for group in layers.values()]
    measured, ceilings = networks[0].timed.measurement, networks[0].timed.ceilings
    rows = ceiling_rows(ceilings)
    notes = [_ceiling_note(ceilings), *_mode_notes(study, networks)]
    notes += [_layer_note(network, layers[network.model, network.input_shape]) for network in networks if layers]
    notes += _baseline_notes(baseline, rows, measured) if baseline else []
    notes += warnings([*(result.timed.measurement for result in results), ceilings.product, ceilings.copy])
    notes += _left_out(study, networks)
    return Document("bench", (*rows, *(result.as_row() for result in results)), tuple(tables), tuple(notes), *ran_on(measured))


def _network_table(study: BenchmarkStudy, networks: Sequence[NetworkTime]) -> Table:
    measured = networks[0].timed.measurement
    threads = "1 thread" if measured.threads == 1 else f"{measured.threads} threads"
    network = study.networks[0]
    task = f"{network.task.name}, " if network.task else ""
    title = f"{task}{study.passes}, {times(network.size)} pixels, {measured.device}, {threads}, {measured.dtype}"
    fields = [f for f in _NETWORK if f.header not in _HIDDEN_IF_EMPTY or any(f.read(result) for result in networks)]
    return build(title, fields, networks)


def _layer_table(layers: Sequence[LayerTime]) -> Table:
    """Return the slowest layers of one network, and their share of the time of all its layers."""
    slowest = sorted(layers, key=lambda layer: -(layer.total_s or 0))[:_SHOWN_LAYERS]
    sum_s = sum(layer.total_s or 0 for layer in layers) or 1
    share: Field[LayerTime] = Field("% time", lambda layer: number_text(layer.total_s, ".1f", 100 / sum_s))
    title = f"{layers[0].model}, batch {layers[0].input_shape[0]}: the slowest {len(slowest)} of {len(layers)} layers"
    fields = [f for f in _LAYER if f.header not in _HIDDEN_IF_EMPTY or any(f.read(layer) for layer in slowest)]
    return build(title, [*fields[:5], share, *fields[5:]], slowest)


_Pair = tuple[NetworkTime, NetworkTime]
"""The fastest mode of a network and batch, and the next one."""

_FASTEST: tuple[Field[_Pair], ...] = (
    Field("Model", lambda pair: pair[0].model, numeric=False),
    Field("Batch", lambda pair: pair[0].input_shape[0]),
    Field("Fastest", lambda pair: pair[0].mode, numeric=False),
    Field("median ms", lambda pair: median(pair[0].timed.measurement)),
    Field("Next", lambda pair: pair[1].mode, numeric=False),
    Field("lead", lambda pair: interval_text(paired_ratio(*(each.timed.measurement.samples_s for each in reversed(pair))))),
)


def _fastest_tables(networks: Sequence[NetworkTime]) -> list[Table]:
    """Return the fastest mode of each network and batch, and its lead over the next one; no table if there is none."""
    groups: dict[tuple[object, ...], list[NetworkTime]] = {}
    for network in networks:
        if network.timed.measurement.median_s is not None:
            groups.setdefault((network.model, network.input_shape), []).append(network)
    ordered = (sorted(group, key=lambda r: r.timed.measurement.median_s or 0) for group in groups.values())
    pairs = [(group[0], group[1]) for group in ordered if len(group) > 1]
    return [build("The fastest mode of each network and batch", _FASTEST, pairs)] if pairs else []


def _ceiling_note(ceilings: Ceilings) -> str:
    product, copied = number_text(ceilings.macs_per_s, factor=1e-9), number_text(ceilings.bytes_per_s, factor=1e-9)
    return (
        f"Ceilings measured in this run: matrix product {product or 'unknown'} GMAC/s, copy {copied or 'unknown'} GB/s. MACs: "
        "closed form, convention exact. Bytes: inputs, weights and outputs of every operation. % roof: the least time that "
        "both ceilings allow, divided by the median; above 100 if data came from a cache, if the mode multiplies with another "
        "library than torch.mm, or if the machine was busier while the ceilings were measured."
    )


def _mode_notes(study: BenchmarkStudy, networks: Sequence[NetworkTime]) -> Iterator[str]:
    if engines := [name for name, mode in MODES.items() if mode.engine and name in study.modes]:
        fused = " (openvino-fused: the fused network)" if "openvino-fused" in engines else ""
        yield (
            f"{', '.join(engines)}: the plain network{fused}, exported for each batch and run with as many threads as torch. "
            "torch's allocator does not count their memory."
        )
    if any(network.speedup for network in networks):
        yield (
            f"speed-up: the time of mode {study.modes[0]} divided by the time of this mode; median over interleaved rounds, "
            "with a 95 % interval. Above 1 is faster."
        )
        if len(study.modes) >= _RANKED_MODES:
            yield "lead: the time of the next mode divided by that of the fastest; median and interval as for speed-up."
    if differences := [network.difference for network in networks if network.difference]:
        yield (
            f"Before timing, all outputs were compared with the plain network in float32: relative difference at most "
            f"{max(differences):.1e}."
        )


def _layer_note(network: NetworkTime, layers: Sequence[LayerTime]) -> str:
    whole_s, sum_s = network.timed.measurement.median_s, sum(layer.total_s or 0 for layer in layers)
    share = f"{100 * sum_s / whole_s:.0f} %" if whole_s else "an unknown share"
    return (
        f"{network.model}, batch {network.input_shape[0]}: the layers, timed one by one with warm caches, add up to {share} of "
        "the time of the network; the rest lies between them (additions, concatenation, layout changes, pooling, cold caches)."
    )


def _baseline_notes(baseline: Baseline, ceilings: Sequence[Mapping[str, Any]], measured: Measurement) -> Iterator[str]:
    """Yield what the column means, how the machine itself compares, and what else differs between the two runs."""
    yield "over baseline: the median time of the baseline divided by that of this run, with a 95 % interval; above 1 is faster."
    ratios = {row["part"]: baseline.speedup(row) for row in ceilings}
    if machine := ", ".join(f"{part} {interval_text(ratio)}" for part, ratio in ratios.items() if ratio):
        yield f"The machine itself, over baseline: {machine}. Where these differ from 1, the machine changed, not the network."
    now = environment(*ran_on(measured))
    then = baseline.environment
    if changed := [f"{name} {then.get(name)} then, {now[name]} now" for name in now if then.get(name) != now[name]]:
        yield f"Different from the baseline: {'; '.join(changed)}."


def _left_out(study: BenchmarkStudy, networks: Sequence[NetworkTime]) -> Iterator[str]:
    """Yield what was not measured, or for less time than requested, and why."""
    for network in networks:
        if reason := trouble(network.timed.measurement):
            taken = len(network.timed.measurement.samples_s)
            samples = f", after {taken} samples" if taken else ""
            yield f"{network.model}, {network.mode}, batch {network.input_shape[0]}{samples}: {reason}"
    begun = {(network.model, network.input_shape[0]) for network in networks}
    if missing := [f"{each.name} batch {batch}" for each, batch in study.groups if (each.name, batch) not in begun]:
        yield f"not measured: {', '.join(missing)}"
