"""The other tools that count multiply-adds: one file a tool, with its rule, how it is run, its version and how it prints.

A rule reads a trace and nothing else, so it is evaluated in closed form: no file here imports torch, or a tool, when it is
loaded.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from mpvit.errors import unknown_name
from mpvit.imports import resolve
from mpvit.trace import Trace

if TYPE_CHECKING:
    from torch import Tensor, nn

TOOLS = {
    "torch": "mpvit.tools.torch_flop_counter:TOOL",
    "fvcore": "mpvit.tools.fvcore:TOOL",
    "thop": "mpvit.tools.thop:TOOL",
    "ultralytics-thop": "mpvit.tools.ultralytics_thop:TOOL",
    "torchinfo": "mpvit.tools.torchinfo:TOOL",
    "ptflops-pytorch": "mpvit.tools.ptflops:PYTORCH",
    "ptflops-aten": "mpvit.tools.ptflops:ATEN",
    "calflops": "mpvit.tools.calflops:TOOL",
    "deepspeed": "mpvit.tools.deepspeed:TOOL",
}


@dataclass(frozen=True, slots=True)
class Term:
    """One reason for a difference: how much more a tool counts than the exact count (negative: less), and why."""

    name: str
    amount: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCount:
    """What a tool counts of a network when it runs.

    Attributes:
        macs: multiply-adds.
        params: parameters; None for a tool that does not count them.
        activations: output elements as the tool counts them; None for a tool that does not count them.
        by_module: multiply-adds of each module without those below it, by its first name, before the tool adds up shared
            modules and takes averages.
        by_kind: multiply-adds of each kind of operation; empty for a tool that does not tell them.
        not_counted: number of calls of each operation that the tool passes over; empty for a tool that does not tell them.
    """

    macs: int
    params: int | None
    activations: int | None = None
    by_module: Mapping[str, int] = field(default_factory=dict)
    by_kind: Mapping[str, int] = field(default_factory=dict)
    not_counted: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One tool.

    Attributes:
        name: its name in ``TOOLS``.
        distribution: distribution that installs it.
        version: version of the distribution that the rule describes.
        source: files of the tool in which the rule can be read.
        rule: (trace) -> the terms by which the tool's multiply-adds differ from those of the trace.
        params_rule: (trace) -> the terms by which its parameters differ; None for a tool that does not count them.
        run: (network, inputs) -> its count; both are copies on the CPU, and the tool is silenced.
        prints: (multiply-adds) -> the text that the tool prints for them.
        convention: the convention that it counts by; empty for one of its own.
        modules_only: whether it counts modules only, no functions.
        keeps_outputs: whether it needs memory for the outputs of all operations at once.
        reads_graph: whether the rule reads the graph of torch's tracer, if the trace has it.
        reads_dispatched_on_cpu: whether the rule reads what the CPU's dispatcher runs, if the trace has it.
    """

    name: str
    distribution: str
    version: str
    source: str
    rule: Callable[[Trace], Iterable[Term]]
    params_rule: Callable[[Trace], Iterable[Term]] | None
    run: "Callable[[nn.Module, Sequence[Tensor]], ToolCount]"
    prints: Callable[[int], str]
    convention: str = ""
    modules_only: bool = False
    keeps_outputs: bool = False
    reads_graph: bool = False
    reads_dispatched_on_cpu: bool = False

    def count(self, network: "nn.Module", inputs: "Sequence[Tensor]") -> ToolCount:
        """Run the tool on copies of ``network`` and ``inputs``; raise ``MpvitError`` if it fails.

        Leaves no trace on the network, the random state, torch, logging or the terminal.
        """
        from mpvit.user_model.isolation import copies, isolated

        with isolated(self.name):
            return self.run(*copies(network, inputs, "cpu"))

    @property
    def installed_version(self) -> str | None:
        """The version that is installed, without a local part such as +cpu; None if none is."""
        return _installed(self.distribution)


@cache
def _installed(distribution: str) -> str | None:
    try:
        return version(distribution).partition("+")[0]
    except PackageNotFoundError:
        return None


def get_tool(name: str) -> Tool:
    """Return a tool of ``TOOLS``; raise ``UsageError`` with the nearest name for any other."""
    if name not in TOOLS:
        raise unknown_name("tool", name, TOOLS)
    tool: Tool = resolve(TOOLS[name])
    return tool


def trace_options(tools: Iterable[str]) -> dict[str, bool]:
    """Return the arguments of ``trace_module`` by which a trace has what the rules of ``tools`` read."""
    known = [get_tool(name) for name in tools]
    return {
        "graph": any(tool.reads_graph for tool in known),
        "dispatched_on_cpu": any(tool.reads_dispatched_on_cpu for tool in known),
    }
