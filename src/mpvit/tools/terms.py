"""The terms that several rules share, and how the terms of a rule are added up."""

from collections.abc import Iterable
from math import prod

from mpvit.tools import Term
from mpvit.trace import Call, Trace


def no_terms(_: Trace) -> Iterable[Term]:
    """Return no term: the tool counts exactly."""
    return ()


def frozen_parameters(trace: Trace) -> Iterable[Term]:
    """Return what is missing if a tool counts only the parameters that take gradients."""
    frozen = sum(
        prod(shape)
        for module in trace.modules.values()
        for name, shape in module.parameters
        if name in module.frozen and name not in module.tied
    )
    return (Term("frozen parameters", -frozen, "those that take no gradient are not counted"),)


def not_counted(calls: Iterable[Call], reason: str) -> list[Term]:
    """Return a term for each operator of ``calls``: minus its multiply-adds."""
    return [Term(f"not counted: {call.operator}", -call.macs, reason) for call in calls]


def added_up(terms: Iterable[Term]) -> tuple[Term, ...]:
    """Return one term for each name, without those of 0: first what is missing, then what is more, the largest first."""
    merged: dict[str, Term] = {}
    for term in terms:
        before = merged[term.name].amount if term.name in merged else 0
        merged[term.name] = Term(term.name, before + term.amount, term.reason)
    return tuple(
        sorted((term for term in merged.values() if term.amount), key=lambda term: (term.amount > 0, -abs(term.amount)))
    )
