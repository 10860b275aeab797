"""Why tools disagree: each tool's number, its terms one under the other, and the reason of each."""

from collections.abc import Sequence

from mpvit.reconcile.explain import Explanation
from mpvit.tables import Cell, Column, Compared, Document, Field, Table, build
from mpvit.units import grouped, times

_SUMMARY: tuple[Field[Explanation], ...] = (
    Field("Tool", lambda e: e.tool, numeric=False),
    Field("Rule for", lambda e: e.made_for, numeric=False, optional=True),
    Field("MACs", lambda e: e.tool_macs),
    Field("− exact", lambda e: signed(e.tool_macs - e.macs)),
    Field("Params", lambda e: e.tool_params, optional=True),
    Field("It prints", lambda e: e.printed, numeric=False, optional=True),
)
_TERMS = (Column("Tool"), Column("Term"), Column("MACs", numeric=True), Column("Params", numeric=True))
_REASONS = (Column("Tool"), Column("Term"), Column("Why"))


def _live(explained: Explanation) -> Compared | None:
    if explained.live is None:
        return None
    return Compared(explained.live.macs, not explained.residual and not explained.params_residual)


_LIVE: tuple[Field[Explanation], ...] = (
    Field("Live MACs", _live),
    Field("Residual", lambda e: e.residual),
    Field("of params", lambda e: e.params_residual, optional=True),
)


def reconcile_document(explanations: Sequence[Explanation], layout: str, *, live: bool) -> Document:
    """Return, for each network, every tool's number and its terms; then why each term is."""
    tables: list[Table] = []
    for model in dict.fromkeys(each.label for each in explanations):
        own = [each for each in explanations if each.label == model]
        shapes = ", ".join(times(shape) for shape in own[0].input_shapes)
        exact = f"exact: {grouped(own[0].macs)} MACs, {grouped(own[0].params)} parameters"
        title = f"{model}: input {shapes}, {layout} layout, {exact}"
        tables += [build(title, [*_SUMMARY, *(_LIVE if live else ())], own), _terms(own)]
    if any(each.terms or each.param_terms for each in explanations):
        tables.append(_reasons(explanations))
    rows = tuple({**each.as_row(), "layout": layout} for each in explanations)
    return Document("reconcile", rows, tuple(tables), tuple(_notes(explanations, live=live)))


def signed(amount: int) -> str:
    """Return a difference with its sign, also where it is more."""
    return "0" if amount == 0 else f"{'+' if amount > 0 else '−'}{grouped(abs(amount))}"


def _terms(explanations: Sequence[Explanation]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for each in explanations:
        macs = {term.name: term.amount for term in each.terms}
        params = {term.name: term.amount for term in each.param_terms or ()}
        counts_params = each.param_terms is not None
        rows.append((each.tool, "exact count", each.macs, each.params if counts_params else None))
        rows += [("", name, signed(macs.get(name, 0)), signed(params.get(name, 0))) for name in {**macs, **params}]
        rows.append(("", f"= {each.tool}", each.tool_macs, each.tool_params))
    return Table("", _TERMS, tuple(rows))


def _reasons(explanations: Sequence[Explanation]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for tool in dict.fromkeys(each.tool for each in explanations):
        own = [each for each in explanations if each.tool == tool]
        whys = dict.fromkeys((term.name, term.reason) for each in own for term in each.terms)
        whys |= dict.fromkeys((f"{term.name} (params)", term.reason) for each in own for term in each.param_terms or ())
        rows += [(tool, name, reason) for name, reason in whys]
        rows += [(tool, "source", own[0].source)] if whys else []
    return Table("Why", _REASONS, tuple(rows))


def _notes(explanations: Sequence[Explanation], *, live: bool) -> list[str]:
    notes = ["exact: multiply-adds (MACs) of convolutions, linear layers and matrix products; 1 MAC = 2 FLOPs."]
    if live:
        notes.append("✓ the tool itself, run here, counts what its rule says; residual: what the rule does not explain.")
    return notes + list(dict.fromkeys(f"{each.tool}: {each.error}" for each in explanations if each.error))
