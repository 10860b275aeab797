"""Attention as N grows: what each kind costs at one N, over a sweep, and at the tokens that a network meets."""

from collections.abc import Sequence
from fractions import Fraction

from mpvit.compare_attention.results import (
    AttentionCost,
    StageTokens,
)
from mpvit.tables import Cell, Column, Document, Field, Table, build
from mpvit.tables.memory import readable_bytes
from mpvit.units import ITEM_BYTES, grouped, times

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
    title = f"N = {grouped(first.tokens)} tokens ({times(first.grid)}), {widths_text(first)}"
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


def widths_text(cost: AttentionCost) -> str:
    """Return channels and heads as people write them."""
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
    return Table(f"As N grows, {widths_text(swept[0])}", columns, tuple(rows))


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
