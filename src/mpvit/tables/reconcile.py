"""Why tools disagree: the count of each tool, the terms that make the difference, and the reason of each term."""

from collections.abc import Iterator, Sequence

from mpvit.reconcile.explain import Explanation
from mpvit.tables import Cell, Column, Compared, Document, Field, Table, build
from mpvit.tables.number_text import signed
from mpvit.units import grouped, times

_SUMMARY: tuple[Field[Explanation], ...] = (
    Field("Tool", lambda e: e.tool, numeric=False),
    Field("Rule for", lambda e: e.made_for, numeric=False, optional=True),
    Field("MACs", lambda e: e.tool_macs),
    Field("− exact", lambda e: signed(e.tool_macs - e.macs)),
    Field("Params", lambda e: e.tool_params, optional=True),
    Field("It prints", lambda e: e.printed, numeric=False, optional=True),
)
_LIVE: tuple[Field[Explanation], ...] = (
    Field("Live MACs", lambda e: Compared(e.live.macs, not e.residual and not e.params_residual) if e.live else None),
    Field("Residual", lambda e: e.residual),
    Field("of params", lambda e: e.params_residual, optional=True),
)
_TERMS = (Column("Tool"), Column("Term"), Column("MACs", numeric=True), Column("Params", numeric=True))
_REASONS = (Column("Tool"), Column("Term"), Column("Reason"))


def reconcile_document(explanations: Sequence[Explanation], layout: str, *, live: bool) -> Document:
    """Return, for each network, the count of every tool and its terms; then the reason of each term."""
    tables: list[Table] = []
    for model in dict.fromkeys(each.label for each in explanations):
        own = [each for each in explanations if each.label == model]
        shapes = ", ".join(times(shape) for shape in own[0].input_shapes)
        exact = f"exact: {grouped(own[0].macs)} MACs, {grouped(own[0].params)} parameters"
        summary = build(f"{model}: input {shapes}, {layout} layout, {exact}", [*_SUMMARY, *(_LIVE if live else ())], own)
        tables += [
            summary,
            Table(
                f"{model}: from the exact count to that of each tool",
                _TERMS,
                tuple(row for each in own for row in _term_rows(each)),
            ),
        ]
    if any(each.terms or each.param_terms for each in explanations):
        tables.append(Table("Reasons", _REASONS, tuple(_reason_rows(explanations))))
    rows = tuple({**each.as_row(), "layout": layout} for each in explanations)
    return Document("reconcile", rows, tuple(tables), tuple(_notes(explanations, live=live)))


def _term_rows(each: Explanation) -> Iterator[tuple[Cell, ...]]:
    macs = {term.name: term.amount for term in each.terms}
    params = {term.name: term.amount for term in each.param_terms or ()}
    yield each.tool, "exact count", each.macs, None if each.param_terms is None else each.params
    for name in {**macs, **params}:
        yield "", name, signed(macs.get(name, 0)), signed(params.get(name, 0))
    yield "", f"= {each.tool}", each.tool_macs, each.tool_params


def _reason_rows(explanations: Sequence[Explanation]) -> Iterator[tuple[Cell, ...]]:
    for tool in dict.fromkeys(each.tool for each in explanations):
        own = [each for each in explanations if each.tool == tool]
        reasons = dict.fromkeys((term.name, term.reason) for each in own for term in each.terms)
        reasons |= dict.fromkeys((f"{term.name} (params)", term.reason) for each in own for term in each.param_terms or ())
        yield from ((tool, name, reason) for name, reason in reasons)
        if reasons:
            yield tool, "source", own[0].source


def _notes(explanations: Sequence[Explanation], *, live: bool) -> Iterator[str]:
    yield "exact: multiply-adds (MACs) of convolutions, linear layers and matrix products; 1 MAC = 2 FLOPs."
    if live:
        yield "✓ the tool itself, run here, counts what its rule predicts. Residual: what the rule does not explain."
    yield from dict.fromkeys(f"{each.tool}: {each.error}" for each in explanations if each.error)
