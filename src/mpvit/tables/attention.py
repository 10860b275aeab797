"""Attention in closed form: the cost of each kind at one N, over a sweep of N, and at the tokens of a network."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import attrgetter

from mpvit.compare_attention.results import AttentionCost, StageTokens
from mpvit.tables import Document, Field, Result, Table, build
from mpvit.tables.number_text import bytes_text, ratio_text
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
    costs: Sequence[AttentionCost], swept: Sequence[AttentionCost], stages: Sequence[StageTokens], network: str
) -> Document:
    """Return the costs at one N, the sweep over N, and the costs in each of the ``stages`` of ``network``."""
    first = costs[0]
    tables = [build(f"N = {grouped(first.tokens)} tokens ({times(first.grid)}), {widths_text(first)}", _COST, costs)]
    if swept:
        tables.append(_sweep_table(swept))
    if stages:
        tables.append(_ratio_table(f"Tokens in the stages of {network}", _STAGE, stages, attrgetter("costs")))
    results = [{"table": "kinds", **cost.as_row()} for cost in costs]
    results += [{"table": "sweep", **cost.as_row()} for cost in swept]
    results += [
        {"table": "stages", "stage": stage.stage, "image_size": list(stage.size), **cost.as_row()}
        for stage in stages
        for cost in stage.costs
    ]
    return Document("compare-attn", tuple(results), tuple(tables), tuple(_notes(first, stages, network)))


def widths_text(cost: AttentionCost) -> str:
    """Return the channels and heads: C = 64 channels, h = 8 heads, d = 8."""
    return f"C = {cost.dim} channels, h = {cost.heads} heads, d = {cost.dim // cost.heads}"


def _sweep_table(swept: Sequence[AttentionCost]) -> Table:
    by_tokens: dict[int, list[AttentionCost]] = {}
    for cost in swept:
        others = by_tokens.setdefault(cost.tokens, [])
        others += [cost] if cost.kind != "softmax" else []  # full attention has a column of its own
    full = {cost.tokens: cost.softmax_macs for cost in swept}
    fields: tuple[Field[int], ...] = (Field("N", lambda tokens: tokens), Field("full MACs", lambda tokens: full[tokens]))
    return _ratio_table(f"As N grows, {widths_text(swept[0])}", fields, list(by_tokens), by_tokens.__getitem__, required=2)


_STAGE: tuple[Field[StageTokens], ...] = (
    Field("Image", lambda stage: times(stage.size), numeric=False),
    Field("Stage", lambda stage: stage.stage),
    Field("N", lambda stage: stage.tokens),
    Field("d", lambda stage: stage.dim // stage.heads),
)


def _ratio_table(
    title: str,
    fields: Sequence[Field[Result]],
    results: Sequence[Result],
    costs: Callable[[Result], Sequence[AttentionCost]],
    required: int | None = None,
) -> Table:
    """Return the fields, the cost of full attention divided by that of each kind, and whether full attention is cheaper.

    A narrow window keeps the first ``required`` kinds; None for all.
    """

    def ratio(index: int, result: Result) -> str:
        return ratio_text(costs(result)[index].ratio)

    def cheaper(result: Result) -> str:
        below = [cost.ratio < 1 for cost in costs(result)]
        return "full" if below and all(below) else "depends" if any(below) else ""

    kinds = list(enumerate(cost.label for cost in costs(results[0])))
    ratios = [Field(f"full ÷ {kind}", partial(ratio, i), optional=i >= (required or len(kinds))) for i, kind in kinds]
    return build(title, [*fields, *ratios, Field("cheaper", cheaper, numeric=False)], results)


def _notes(first: AttentionCost, stages: Sequence[StageTokens], network: str) -> Iterator[str]:
    yield (
        "MACs, exponentials (Exp) and elements of the largest extra tensor (Extra) are those of one image. The projections add "
        f"4·N·C² = {grouped(first.projection_macs)} MACs to each kind. N^: growth exponent. N*: the N at which full attention "
        "costs the same."
    )
    d = first.dim // first.heads
    yield (
        f"The often quoted saving N/C = {ratio_text(first.tokens / first.dim)} forgets the heads. The saving is N/d = "
        f"{ratio_text(first.tokens / d)}: factorized attention costs d/N of full attention, not C/N. Both cost the same at "
        f"N* = d = {d}; with CRPE and 8 heads at d + 15 = {d + 15}, or {d + 15.5} with the elementwise products of the query."
    )
    cheaper = [
        f"stage {at.stage} at {times(at.size)} ({ratio_text(at.costs[0].ratio)})" for at in stages if at.costs[0].ratio < 1
    ]
    if cheaper:
        yield f"In {network}, full attention is cheaper in {'; '.join(cheaper)}."


_StageCost = tuple[StageTokens, AttentionCost]

_STAGE_COST: tuple[Field[_StageCost], ...] = (
    Field("Stage", lambda each: each[0].stage),
    Field("N", lambda each: each[0].tokens),
    Field("C", lambda each: each[0].dim, optional=True),
    Field("h", lambda each: each[0].heads, optional=True),
    Field("Layers", lambda each: each[0].layers, optional=True),
    Field("Kind", lambda each: each[1].label, numeric=False),
    Field("MACs", lambda each: each[1].macs),
    Field("full ÷", lambda each: ratio_text(each[1].ratio), optional=True),
    Field("Extra", lambda each: bytes_text(_extra_bytes(each[1]))),
)


def task_document(stages: Sequence[StageTokens], network: str, memory_bytes: int) -> Document:
    """Return the cost of each kind in one layer of each stage at the image size of a task, and whether it fits the memory.

    ``network`` is the name of the network with its task.
    """
    costs = [(stage, cost) for stage in stages for cost in stage.costs]
    title = f"{network}, {times(stages[0].size)} pixels, one image: attention in one layer of each stage"
    fits: Field[_StageCost] = Field(
        f"fits {bytes_text(memory_bytes)}", lambda each: "yes" if _extra_bytes(each[1]) <= memory_bytes else "no", numeric=False
    )
    rows = tuple(
        {
            "table": "stages",
            "stage": stage.stage,
            "layers": stage.layers,
            "image_size": list(stage.size),
            **cost.as_row(),
            "extra_bytes": _extra_bytes(cost),
            "memory_bytes": memory_bytes,
            "fits": _extra_bytes(cost) <= memory_bytes,
        }
        for stage, cost in costs
    )
    table = build(title, [*_STAGE_COST, fits], costs)
    return Document("compare-attn", rows, (table,), tuple(_task_notes(costs, memory_bytes)))


def _extra_bytes(cost: AttentionCost) -> int:
    return ITEM_BYTES["float32"] * cost.extra_elements


def _task_notes(costs: Sequence[_StageCost], memory_bytes: int) -> Iterator[str]:
    memory = bytes_text(memory_bytes)
    yield "MACs: those of one layer. Extra: its largest tensor in float32 that not every kind has. Layers: those of all paths."
    for stage, cost in costs:
        if _extra_bytes(cost) > memory_bytes:
            tensor = f"{grouped(stage.tokens)} tokens make one tensor of {bytes_text(_extra_bytes(cost))}"
            yield f"{cost.label} does not fit into {memory} in stage {stage.stage}: {tensor}."
    if all(_extra_bytes(cost) <= memory_bytes for _, cost in costs):
        yield f"Every tensor fits into {memory}."
