"""Attention as N grows: what each kind costs at one N, over a sweep, and at the tokens that a network meets."""

from collections.abc import Sequence
from dataclasses import asdict
from fractions import Fraction
from itertools import pairwise

from mpvit.compare_attention.results import (
    AttentionCost,
    AttentionPoint,
    Crossing,
    Growth,
    ImpliedMap,
    RoundingError,
    StageTokens,
)
from mpvit.measurement import WARNINGS
from mpvit.tables import Cell, Column, Document, Field, Table, build
from mpvit.tables.measured import milliseconds, quartiles
from mpvit.tables.memory import readable_bytes
from mpvit.units import ITEM_BYTES, grouped, times

_STRAIGHT = 0.1
"""How far a measured exponent may be from the predicted one before it needs a word."""

_COST: tuple[Field[AttentionCost], ...] = (
    Field("Kind", lambda c: c.label, numeric=False),
    Field("MACs", lambda c: c.macs),
    Field("full ÷", lambda c: ratio_text(c.ratio)),
    Field("MACs + proj.", lambda c: c.macs + c.projection_macs, optional=True),
    Field("full ÷ + proj.", lambda c: ratio_text(c.ratio_with_projections), optional=True),
    Field("Exp", lambda c: c.exponentials),
    Field("Extra", lambda c: c.extra_elements),
    Field("N^", lambda c: f"{c.growth:.2f}"),
    Field("N*", lambda c: None if c.crossover_tokens is None else f"{c.crossover_tokens:.4g}"),
    Field("Formula", lambda c: c.formula, numeric=False, optional=True),
)


def attention_document(
    costs: Sequence[AttentionCost], swept: Sequence[AttentionCost], met: Sequence[StageTokens], network: str
) -> Document:
    """Return the costs at one N, the sweep over N, and each stage of ``network`` at the sizes that it meets."""
    first = costs[0]
    title = f"N = {grouped(first.tokens)} tokens ({times(first.grid)}), {_widths(first)}"
    tables = [build(title, _COST, costs)]
    if swept:
        tables.append(_sweep_table(swept))
    if met:
        tables.append(_met_table(met, network))
    results = [{"table": "kinds", **cost.as_row()} for cost in costs]
    results += [{"table": "sweep", **cost.as_row()} for cost in swept]
    results += [
        {"table": "stages", "stage": at.stage, "image_size": list(at.size), **cost.as_row()} for at in met for cost in at.costs
    ]
    return Document("compare-attn", tuple(results), tuple(tables), tuple(_notes(first, met, network)))


def task_document(met: Sequence[StageTokens], network: str, memory_bytes: int) -> Document:
    """Return what each kind costs in one layer of each stage at the size of a task, and what does not fit into the memory.

    ``network`` is its name, that of the task included.
    """
    at = [(stage, cost) for stage in met for cost in stage.costs]
    title = f"{network}, {times(met[0].size)} pixels, one image: attention in one layer of each stage"
    fits: Field[_At] = Field(f"fits {readable_bytes(memory_bytes)}", lambda a: _fits(a, memory_bytes), numeric=False)
    rows = tuple(
        {
            "table": "stages",
            "stage": stage.stage,
            "layers": stage.layers,
            "image_size": list(stage.size),
            **cost.as_row(),
            "extra_bytes": _extra_bytes((stage, cost)),
            "memory_bytes": memory_bytes,
            "fits": _extra_bytes((stage, cost)) <= memory_bytes,
        }
        for stage, cost in at
    )
    return Document("compare-attn", rows, (build(title, [*_AT, fits], at),), tuple(_task_notes(at, memory_bytes)))


_At = tuple[StageTokens, AttentionCost]
_AT: tuple[Field[_At], ...] = (
    Field("Stage", lambda a: a[0].stage),
    Field("N", lambda a: a[0].tokens),
    Field("C", lambda a: a[0].dim, optional=True),
    Field("h", lambda a: a[0].heads, optional=True),
    Field("Layers", lambda a: a[0].layers, optional=True),
    Field("Kind", lambda a: a[1].label, numeric=False),
    Field("MACs", lambda a: a[1].macs),
    Field("full ÷", lambda a: ratio_text(a[1].ratio), optional=True),
    Field("Extra", lambda a: readable_bytes(_extra_bytes(a))),
)


def _extra_bytes(at: _At) -> int:
    return ITEM_BYTES["float32"] * at[1].extra_elements


def _fits(at: _At, memory_bytes: int) -> str:
    return "yes" if _extra_bytes(at) <= memory_bytes else "no"


def _task_notes(at: Sequence[_At], memory_bytes: int) -> list[str]:
    notes = ["MACs of one layer; Extra: its largest tensor in float32 beside what every kind holds. Layers: of all paths."]
    too_large = [each for each in at if _extra_bytes(each) > memory_bytes]
    notes += [
        f"{cost.label} does not fit into {readable_bytes(memory_bytes)} in stage {stage.stage}: "
        f"{grouped(stage.tokens)} tokens make one tensor of {readable_bytes(_extra_bytes((stage, cost)))}."
        for stage, cost in too_large
    ]
    return notes if too_large else [*notes, f"Every tensor fits into {readable_bytes(memory_bytes)}."]


def ratio_text(ratio: float) -> str:
    """Return how many times more full attention costs: 392×, 0.82×."""
    if ratio == int(ratio):
        return f"{grouped(int(ratio))}×"
    if ratio < 1:
        return f"{ratio:.2g}×"
    small = 10
    return f"{ratio:.2f}×" if ratio < small else f"{ratio:,.1f}×".replace(",", " ")


def _widths(cost: AttentionCost) -> str:
    return f"C = {cost.dim} channels, h = {cost.heads} heads, d = {cost.dim // cost.heads}"


def _sweep_table(swept: Sequence[AttentionCost]) -> Table:
    by_tokens: dict[int, list[AttentionCost]] = {}
    for cost in swept:
        others = by_tokens.setdefault(cost.tokens, [])
        others += [cost] if cost.kind != "softmax" else []  # full attention has its own column
    kinds = next(iter(by_tokens.values()))
    ratios = [Column(f"full ÷ {cost.label}", numeric=True, optional=i > 1) for i, cost in enumerate(kinds)]
    columns = (Column("N", numeric=True), Column("full MACs", numeric=True), *ratios, _CHEAPEST)
    full = {cost.tokens: cost.softmax_macs for cost in swept}
    rows: list[tuple[Cell, ...]] = []
    for tokens, costs in by_tokens.items():
        texts = [ratio_text(cost.ratio) for cost in costs]
        rows.append((tokens, full[tokens], *texts, _winner(costs)))
    return Table(f"As N grows, {_widths(swept[0])}", columns, tuple(rows))


_CHEAPEST = Column("cheaper")


def _winner(costs: Sequence[AttentionCost]) -> str:
    """Say where full attention is the cheaper one; that is the exception, so nothing is said elsewhere."""
    below = [cost.ratio < 1 for cost in costs]
    return "full" if below and all(below) else "depends" if any(below) else ""


def _met_table(met: Sequence[StageTokens], network: str) -> Table:
    columns = (
        Column("Image"),
        Column("Stage", numeric=True),
        Column("N", numeric=True),
        Column("d", numeric=True),
        *(Column(f"full ÷ {cost.label}", numeric=True) for cost in met[0].costs),
        _CHEAPEST,
    )
    rows: list[tuple[Cell, ...]] = []
    for at in met:
        ratios = [ratio_text(cost.ratio) for cost in at.costs]
        rows.append((times(at.size), at.stage, at.tokens, at.dim // at.heads, *ratios, _winner(at.costs)))
    return Table(f"The tokens that {network} meets", columns, tuple(rows))


def _notes(first: AttentionCost, met: Sequence[StageTokens], network: str) -> list[str]:
    head_dim = first.dim // first.heads
    usual, right = Fraction(first.tokens, first.dim), Fraction(first.tokens, head_dim)
    costs = (
        "MACs, exponentials (Exp) and elements of the largest extra tensor (Extra) for one image. The projections add 4·N·C² = "
        f"{grouped(first.projection_macs)} to each kind. N^: growth exponent; N*: where full attention costs as much."
    )
    growth = (
        f"The often quoted saving N/C = {ratio_text(float(usual))} forgets the heads: it is N/d = {ratio_text(float(right))}, "
        f"cost for cost d/N, not C/N. Factorized attention and full attention cross at N* = d = {head_dim}, with CRPE at "
        f"d + 15 = {head_dim + 15} ({head_dim + 15.5} with the query's elementwise products) for 8 heads."
    )
    notes = [costs, growth]
    cheaper = [at for at in met if at.costs[0].ratio < 1]
    if cheaper:
        where = "; ".join(f"stage {at.stage} at {times(at.size)} ({ratio_text(at.costs[0].ratio)})" for at in cheaper)
        notes.append(f"In {network} full attention is the cheaper one in {where}.")
    return notes


def measured_document(
    points: Sequence[AttentionPoint], growths: Sequence[Growth], crossings: Sequence[Crossing], notes: Sequence[str] = ()
) -> Document:
    """Return what was measured at each N, how it grows, and where each kind overtakes full attention."""
    first = points[0]
    where = f"{first.measurement.device}, {first.measurement.threads} threads, {first.measurement.dtype}"
    tables = [
        build(f"Measured on {where}; {_widths(first.cost)}", _POINT, points),
        build("Growth of latency with N, Theil-Sen beyond the overhead plateau, 95 % interval", _GROWTH, growths),
        build("The N above which a kind is faster than full attention, 95 % interval", _CROSSING, crossings),
    ]
    results = [{"table": "points", **point.as_row()} for point in points]
    results += [{"table": "growth", **asdict(fit)} for fit in growths]
    results += [{"table": "crossover", **asdict(crossing)} for crossing in crossings]
    said = [
        *notes,
        *_bends(points, growths),
        *(f"{what}: {advice}" for what, advice in WARNINGS.items() if _warned(points, what)),
    ]
    said += _left_out(points)
    m = first.measurement
    return Document("compare-attn", tuple(results), tuple(tables), tuple(said), m.device, m.threads, m.dtype)


def _bends(points: Sequence[AttentionPoint], growths: Sequence[Growth]) -> list[str]:
    """Say, of each kind that does not grow as its multiply-adds do, at which step it grew the most beyond them."""
    said = []
    for fit in growths:
        if fit.exponent is None or fit.predicted is None or abs(fit.exponent - fit.predicted) <= _STRAIGHT:
            continue
        curve = [point for point in points if point.cost.label == fit.label and point.cost.tokens in fit.tokens]
        a, b = max(pairwise(curve), key=lambda step: _excess(*step))
        growth = (b.measurement.median_s or 0) / (a.measurement.median_s or 1)
        memory = [(point.measurement.peak_bytes or 0) / 1e6 for point in (a, b)]
        said.append(
            f"{fit.label}: measured N^{fit.exponent:.2f}, predicted N^{fit.predicted:.2f}. It departs most from "
            f"N = {grouped(a.cost.tokens)} to {grouped(b.cost.tokens)}: {growth:.1f} times the time for "
            f"{b.cost.macs / a.cost.macs:.1f} times the multiply-adds, peak memory from {memory[0]:.1f} to {memory[1]:.1f} MB."
        )
    return said


def _excess(a: AttentionPoint, b: AttentionPoint) -> float:
    """Return the growth of time from ``a`` to ``b`` over that of multiply-adds."""
    return (b.measurement.median_s or 0) / (a.measurement.median_s or 1) * a.cost.macs / b.cost.macs


def _warned(points: Sequence[AttentionPoint], what: str) -> bool:
    return any(what in point.measurement.warnings for point in points)


def _left_out(points: Sequence[AttentionPoint]) -> list[str]:
    """Say, for each kind and reason, at which N it was not measured or not to the end."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for point in points:
        reason = point.measurement.error or point.measurement.stopped
        if reason:
            reasons.setdefault((point.cost.label, reason.partition(":")[0]), []).append(grouped(point.cost.tokens))
    return [f"{label}: {reason} at N = {', '.join(tokens)}" for (label, reason), tokens in reasons.items()]


def _interval(estimate: float | None, low: float | None, high: float | None, digits: str) -> str | None:
    return None if estimate is None else f"{estimate:{digits}} ({low:{digits}} to {high:{digits}})"


def _crossing_text(crossing: Crossing) -> str:
    if crossing.tokens is None:
        return "always faster" if crossing.always else "not among these N"
    return f"{crossing.tokens:.0f} ({crossing.low:.0f} to {crossing.high:.0f})"


_POINT: tuple[Field[AttentionPoint], ...] = (
    Field("N", lambda p: p.cost.tokens),
    Field("Kind", lambda p: p.cost.label, numeric=False),
    Field("median ms", lambda p: milliseconds(p.measurement.median_s)),
    Field("quartiles ms", lambda p: quartiles(p.measurement), optional=True),
    Field("samples", lambda p: len(p.measurement.samples_s), optional=True),
    Field("peak bytes", lambda p: p.measurement.peak_bytes),
    Field("", lambda p: (p.measurement.error or p.measurement.stopped).partition(":")[0], numeric=False),
)
_GROWTH: tuple[Field[Growth], ...] = (
    Field("Kind", lambda g: g.label, numeric=False),
    Field("predicted", lambda g: None if g.predicted is None else f"{g.predicted:.2f}"),
    Field("measured", lambda g: _interval(g.exponent, g.low, g.high, ".2f")),
    Field("from N", lambda g: g.tokens[0] if g.tokens else None),
    Field("to N", lambda g: g.tokens[-1] if g.tokens else None),
)
_CROSSING: tuple[Field[Crossing], ...] = (
    Field("Kind", lambda c: c.label, numeric=False),
    Field("predicted N*", lambda c: None if c.predicted_tokens is None else f"{c.predicted_tokens:.4g}"),
    Field("measured N*", _crossing_text),
)


def numerics_document(errors: Sequence[RoundingError], maps: Sequence[ImpliedMap]) -> Document:
    """Return the error of each kind in each dtype as N grows, and what the maps between tokens are like."""
    by_kind: dict[tuple[str, str], list[RoundingError]] = {}
    for error in errors:
        by_kind.setdefault((error.label, error.dtype), []).append(error)
    counts = dict.fromkeys(error.tokens for error in errors)
    columns = (Column("Kind"), Column("Dtype"), *(Column(f"N = {grouped(n)}", numeric=True) for n in counts))
    rows = tuple((*key, *(_scientific(error.relative_error) for error in row)) for key, row in by_kind.items())
    tables = [Table("Relative error against float64", columns, rows)]
    if maps:
        title = f"The {maps[0].tokens} × {maps[0].tokens} map that one head of d = {maps[0].head_dim} channels implies"
        tables.append(build(title, _MAP, maps))
    results = [{"table": "errors", **asdict(error)} for error in errors]
    results += [{"table": "maps", **asdict(implied)} for implied in maps]
    contrast = (
        "Factorized attention is no approximation of softmax attention: rank at most d, signed entries, rows that sum to "
        "scale·Σq instead of 1."
    )
    notes = (
        "Standard normal queries, keys and values, rounded to the dtype before; the error is the arithmetic's alone.",
        contrast,
    )
    return Document("compare-attn", tuple(results), tuple(tables), notes, device="cpu")


def _scientific(number: float | None) -> str:
    return "not finite" if number is None else f"{number:.1e}"


_MAP: tuple[Field[ImpliedMap], ...] = (
    Field("Kind", lambda m: m.label, numeric=False),
    Field("Rank", lambda m: m.rank),
    Field("Negative entries", lambda m: f"{100 * m.negative_share:.1f} %"),
    Field("Row sums", lambda m: f"{m.row_sum_min:.3f} to {m.row_sum_max:.3f}"),
)
