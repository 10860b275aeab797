"""The study: each tool's number for a network as the exact count plus named terms, and the live tool's beside it."""

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mpvit.counting.results import Counted
from mpvit.dense import Task, label
from mpvit.errors import CheckError, MpvitError
from mpvit.measurement.machine import free_bytes
from mpvit.operations import Shape
from mpvit.reconcile import Term, reasons
from mpvit.reconcile.differing import differing
from mpvit.reconcile.tools import TOOLS, get_rule, get_tool, installed_version
from mpvit.registry import resolve
from mpvit.trace import Trace

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One tool's count of one network, explained.

    Attributes:
        model: name of the network.
        task: the detector or segmenter that it is under; None for the network alone.
        input_shapes: of the forward pass.
        tool: name of the tool; ``made_for`` is the version that its rule is for.
        source: where the tool says itself what the rule says.
        macs: the exact multiply-adds of convolutions, linear layers and matrix products.
        terms: what the tool has more or less, and why.
        params: the learned numbers, each once.
        param_terms: likewise; None for a tool that does not count parameters.
        installed: the version that is installed; None where none is, or it was not asked for.
        live: what the tool itself counted; None where it was not run.
        error: why it was not, where it should have been.
        failed: whether that is a failure, and not an absence.
    """

    model: str
    input_shapes: tuple[Shape, ...]
    tool: str
    made_for: str
    source: str
    macs: int
    terms: tuple[Term, ...]
    params: int
    param_terms: tuple[Term, ...] | None
    installed: str | None = None
    live: Counted | None = None
    error: str = ""
    failed: bool = False
    task: Task | None = None

    @property
    def label(self) -> str:
        """What was counted, in few words."""
        return label(self.model, self.task)

    @property
    def tool_macs(self) -> int:
        """What the tool counts, by its rule."""
        return self.macs + sum(term.amount for term in self.terms)

    @property
    def tool_params(self) -> int | None:
        """Likewise for parameters; None for a tool that does not count them."""
        return None if self.param_terms is None else self.params + sum(term.amount for term in self.param_terms)

    @property
    def printed(self) -> str:
        """The tool's multiply-adds as it prints them."""
        return TOOLS[self.tool].prints(self.tool_macs)

    @property
    def residual(self) -> int | None:
        """What the rule leaves unexplained of the live multiply-adds; None where the tool was not run."""
        return None if self.live is None else self.live.macs - self.tool_macs

    @property
    def params_residual(self) -> int | None:
        """Likewise of the live parameters."""
        if self.live is None or self.live.params is None or self.tool_params is None:
            return None
        return self.live.params - self.tool_params

    def as_row(self) -> dict[str, Any]:
        """Return the explanation as one flat row for JSON and CSV."""
        params = self.param_terms or ()
        return {
            "model": self.model,
            **(self.task.as_row() if self.task else {}),
            "input_shapes": [list(shape) for shape in self.input_shapes],
            "tool": self.tool,
            "rule_version": self.made_for,
            "exact_macs": self.macs,
            "macs": self.tool_macs,
            "terms": {term.name: term.amount for term in self.terms},
            "reasons": {term.name: term.reason for term in self.terms},
            "exact_params": self.params,
            "params": self.tool_params,
            "param_terms": {term.name: term.amount for term in params},
            "param_reasons": {term.name: term.reason for term in params},
            "source": self.source,
            "printed": self.printed,
            "installed_version": self.installed,
            "live_macs": self.live.macs if self.live else None,
            "live_params": self.live.params if self.live else None,
            "residual_macs": self.residual,
            "residual_params": self.params_residual,
            "error": self.error or None,
        }


def read_on_the_cpu(trace: Trace, tools: Sequence[str], network: "nn.Module", inputs: "Sequence[Tensor]") -> Trace:
    """Return the trace of ``network`` with what only a run on the CPU tells, where one of ``tools`` goes by that.

    That is what torch's tracer records, and the kernels that run. A network for which there is no memory, that cannot be
    copied or that the tracer cannot follow comes back without.
    """
    rules = [get_rule(get_tool(tool)) for tool in tools]
    if sum(parameter.nbytes for parameter in network.parameters()) > free_bytes():
        return trace
    from mpvit.counting.isolation import isolated, throwaway
    from mpvit.trace.graph import with_graph
    from mpvit.trace.kernels import with_kernels

    graph, kernels = any(rule.reads_graph for rule in rules), any(rule.reads_kernels for rule in rules)
    for wanted, read in ((graph, with_graph), (kernels, with_kernels)):
        if wanted:
            with contextlib.suppress(MpvitError), isolated("torch"):
                trace = read(trace, *throwaway(network, inputs, "cpu"))
    return trace


def explain(trace: Trace, model: str, tool: str, task: Task | None = None) -> Explanation:
    """Return what ``tool`` counts of a trace, by its rule; raise ``UsageError`` for a tool that there is not."""
    known = get_tool(tool)
    rule = get_rule(known)
    return Explanation(
        model=model,
        input_shapes=trace.input_shapes,
        tool=tool,
        made_for=known.version,
        source=rule.source,
        macs=trace.macs,
        terms=reasons(rule.macs(trace)),
        params=trace.params,
        param_terms=None if rule.params is None else reasons(rule.params(trace)),
        task=task,
    )


def run_tool(explained: Explanation, network: "nn.Module", inputs: "Sequence[Tensor]") -> Explanation:
    """Run the tool itself on a copy of ``network`` and return its count beside the explanation.

    A tool that is not installed, of another version than its rule is made for, or that fails, is said to be so.
    """
    tool = get_tool(explained.tool)
    installed = installed_version(tool)
    if installed is None:
        return replace(explained, error="not installed")
    if installed != tool.version:
        return replace(explained, installed=installed, error=f"rule made for {tool.version}, found {installed}")
    try:
        live: Counted = resolve(tool.live)(network, inputs)
    except MpvitError as error:
        return replace(explained, installed=installed, error=str(error), failed=True)
    return replace(explained, installed=installed, live=live)


_NAMED = 3
"""How many places or operators an error names."""


def require_explained(explanations: Sequence[Explanation], traces: Mapping[str, Trace] | None = None) -> None:
    """Raise ``CheckError`` for the first live count that its rule does not explain to the last integer.

    With ``traces``, by label, it names the modules in which the difference sits, and the operators that they call.
    """
    for each in explanations:
        for what, residual in (("MACs", each.residual), ("parameters", each.params_residual)):
            if residual:
                trace = (traces or {}).get(each.label)
                where = differing(trace, each.tool, each.live.by_module) if trace and each.live and what == "MACs" else {}
                places = _first([f"{name or 'the network itself'} ({amount:+})" for name, amount in where.items()])
                raise CheckError(
                    f"{each.label}: {residual} {what} of {each.tool} are not explained{places and f': in {places}'}",
                    hint=_hint(trace, where),
                )


def _hint(trace: Trace | None, modules: Collection[str]) -> str:
    if trace is None:
        return "its rule may not know an operator of this network: compare not_counted in mpvit layers"
    operators = dict.fromkeys(call.operator for call in trace.calls if not modules or call.module in modules)
    return f"its rule may not know how the tool counts {_first(list(operators))}"


def _first(words: Sequence[str]) -> str:
    rest = len(words) - _NAMED
    return ", ".join(words[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
