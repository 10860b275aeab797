"""The study: the number of each tool for a network as the exact count plus named terms, and what the tool itself counts."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mpvit.dense import Task, label
from mpvit.errors import CheckError, MpvitError
from mpvit.operations import Shape
from mpvit.reconcile.differing import differing
from mpvit.tools import Term, ToolCount, get_tool
from mpvit.tools.terms import added_up
from mpvit.trace import Trace

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One tool's count of one network, explained.

    Attributes:
        model: name of the network.
        task: the detector or segmenter on the network; None for the network alone.
        input_shapes: shapes of the inputs.
        tool: name of the tool.
        made_for: version of the tool that its rule describes.
        source: files of the tool in which the rule can be read.
        macs: exact multiply-adds of convolutions, linear layers and matrix products.
        terms: by how much the tool's multiply-adds differ, and why.
        params: parameters, each counted once.
        param_terms: by how much the tool's parameters differ, and why; None for a tool that does not count them.
        installed: the installed version; None if none is, or if the tool was not run.
        live: what the tool itself counts; None if it was not run.
        error: why it was not run; empty if it was, or if that was not asked for.
        failed: whether the tool ran and failed.
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
    live: ToolCount | None = None
    error: str = ""
    failed: bool = False
    task: Task | None = None

    @property
    def label(self) -> str:
        """The name of the network, together with that of the task if there is one."""
        return label(self.model, self.task)

    @property
    def tool_macs(self) -> int:
        """Multiply-adds that the tool counts, by its rule."""
        return self.macs + sum(term.amount for term in self.terms)

    @property
    def tool_params(self) -> int | None:
        """Parameters that the tool counts, by its rule; None for a tool that does not count them."""
        return None if self.param_terms is None else self.params + sum(term.amount for term in self.param_terms)

    @property
    def printed(self) -> str:
        """The tool's multiply-adds as it prints them."""
        return get_tool(self.tool).prints(self.tool_macs)

    @property
    def residual(self) -> int | None:
        """Live multiply-adds that the rule does not explain; None if the tool was not run."""
        return None if self.live is None else self.live.macs - self.tool_macs

    @property
    def params_residual(self) -> int | None:
        """Live parameters that the rule does not explain; None if the tool was not run or does not count them."""
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


def explain(trace: Trace, model: str, tool: str, task: Task | None = None) -> Explanation:
    """Return what ``tool`` counts of a trace, by its rule; raise ``UsageError`` for an unknown tool."""
    known = get_tool(tool)
    return Explanation(
        model=model,
        input_shapes=trace.input_shapes,
        tool=tool,
        made_for=known.version,
        source=known.source,
        macs=trace.macs,
        terms=added_up(known.rule(trace)),
        params=trace.params,
        param_terms=None if known.params_rule is None else added_up(known.params_rule(trace)),
        task=task,
    )


def run_tool(explained: Explanation, network: "nn.Module", inputs: "Sequence[Tensor]") -> Explanation:
    """Run the tool itself on a copy of ``network`` and return the explanation with its count.

    If the tool is not installed, has another version than the rule describes, or fails, ``error`` says so.
    """
    tool = get_tool(explained.tool)
    installed = tool.installed_version
    if installed is None:
        return replace(explained, error="not installed")
    if installed != tool.version:
        return replace(explained, installed=installed, error=f"rule made for {tool.version}, found {installed}")
    try:
        live = tool.count(network, inputs)
    except MpvitError as error:
        return replace(explained, installed=installed, error=str(error), failed=True)
    return replace(explained, installed=installed, live=live)


_NAMED = 3
"""Maximum number of modules or operators that an error names."""


def require_explained(explanations: Sequence[Explanation], traces: Mapping[str, Trace] | None = None) -> None:
    """Raise ``CheckError`` for the first live count that its rule does not explain to the last integer.

    With ``traces``, by label, the error names the modules in which the difference sits, and the operators that they call.
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
