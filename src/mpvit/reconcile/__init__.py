"""Why other counters print other numbers: one rule a tool, which reads nothing but a trace, and its proof by the live tool."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from mpvit.trace import Call, Trace


@dataclass(frozen=True, slots=True)
class Term:
    """One reason for a difference: what a tool has more (or, negative, less) than the exact count, and why."""

    name: str
    amount: int
    reason: str


class Rule(NamedTuple):
    """What a tool counts, as terms on top of the exact count of a trace; those that come to 0 are left out.

    ``macs`` are on top of the multiply-adds of convolutions, linear layers and matrix products, ``params`` on top of the
    learned numbers; it is None for a tool that does not count them. ``source`` is where the tool says so itself.
    ``reads_graph``: of a tool that counts what torch's tracer records (``mpvit.trace.graph``); ``reads_kernels``: of one that
    counts what the CPU's dispatcher makes of each call.
    """

    macs: Callable[[Trace], Iterable[Term]]
    params: Callable[[Trace], Iterable[Term]] | None
    source: str
    reads_graph: bool = False
    reads_kernels: bool = False


def right(_: Trace) -> Iterable[Term]:
    """Return no term: the tool counts what there is."""
    return ()


def without_frozen(trace: Trace) -> Iterable[Term]:
    """Return what is missing where a tool counts the parameters that take gradients alone."""
    frozen = sum(
        prod(shape)
        for module in trace.modules.values()
        for name, shape in module.parameters
        if name in module.frozen and name not in module.tied
    )
    return (Term("frozen parameters", -frozen, "those that take no gradient are not counted"),)


def left_out(calls: Iterable[Call], reason: str) -> list[Term]:
    """Return one term an operator for multiply-adds that a tool does not see."""
    missing: dict[str, int] = {}
    for call in calls:
        missing[call.operator] = missing.get(call.operator, 0) - call.macs
    return [Term(f"not counted: {operator}", amount, reason) for operator, amount in missing.items()]


def reasons(terms: Iterable[Term]) -> tuple[Term, ...]:
    """Return terms with those of one name added up and those of 0 left out: first what is missing, then what is more."""
    merged: dict[str, Term] = {}
    for term in terms:
        before = merged[term.name].amount if term.name in merged else 0
        merged[term.name] = Term(term.name, before + term.amount, term.reason)
    return tuple(
        sorted((term for term in merged.values() if term.amount), key=lambda term: (term.amount > 0, -abs(term.amount)))
    )
