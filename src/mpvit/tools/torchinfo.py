"""``torchinfo.summary`` (1.8.0): parameters of leaf modules times what it takes for their output's positions."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from mpvit.operations import Shape
from mpvit.tools import Term, Tool, ToolCount
from mpvit.tools.terms import not_counted
from mpvit.trace import Module, Trace

if TYPE_CHECKING:
    from torch import Tensor, nn


def _rule(trace: Trace) -> Iterator[Term]:
    yield from not_counted(
        (call for call in trace.calls if not _is_seen(trace.modules[call.module])),
        "a function, not a module without modules below it",
    )
    exact: Counter[str] = Counter()
    for call in trace.calls:
        exact[call.path] += call.macs
    counted: Counter[tuple[str, str]] = Counter()
    for module_call in trace.module_calls:
        module = trace.modules[module_call.module]
        if _is_seen(module) and module_call.output:
            counted[module_call.path, module_call.module] += _counted(module, module_call.output)
    for (path, name), macs in counted.items():
        module, missing = trace.modules[name], macs - exact[path]
        if "ConvTranspose" in module.type:
            yield Term("transposed convolutions", missing, "parameters times output positions: the inputs' are fewer")
        elif "Conv" in module.type:
            yield Term("convolutions' biases", missing, "parameters times output positions: a bias adds one an element")
        elif module.type == "Linear":
            yield Term("tokens ignored", missing, "a linear layer's parameters once for each image, whatever its tokens")
        else:
            yield Term("other parameters", missing, "once for each image: norms, and any leaf with a weight or bias")


def _is_seen(module: Module) -> bool:
    return module.leaf and bool(module.parameters)


def _counted(module: Module, output: Shape) -> int:
    total = 0
    for name, shape in module.parameters:
        if name in ("weight", "bias"):
            positions = output[:1] + output[2:] if "Conv" in module.type else output[:1]
            total += prod(shape) * prod(positions)
        elif "weight" in name or "bias" in name:
            total += prod(shape) * prod(output[:2])
    return total


# ── parameters ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class _Line:
    """A line of its summary: a module, its depth, and whether an earlier line has the same module."""

    depth: int
    params: int
    leaf: bool
    repeated: bool


def _params_rule(trace: Trace) -> Iterator[Term]:
    lines = _summary(trace)
    own = [_own(lines, index) for index in range(len(lines))]
    total = sum(max(figure, 0) for line, figure in zip(lines, own, strict=True) if not line.repeated)
    yield Term(
        "shared modules",
        total - trace.params,
        "a block's own parameters are all below it, less those of the deeper lines that follow it: lines of shared modules "
        "are marked as repeated or stand at another depth, and are not taken off",
    )


def _own(lines: list[_Line], index: int) -> int:
    """Return the parameters of a line without those of the deeper lines that follow; negative if these have more."""
    line = lines[index]
    if line.leaf:
        return line.params
    below = index + 1
    left = line.params
    while below < len(lines) and lines[below].depth > line.depth:
        if not lines[below].repeated:
            left -= _own(lines, below)
        below += 1
    return left


def _summary(trace: Trace) -> list[_Line]:
    """Return the lines in the order of calls; a module that only holds others comes before the first of these."""
    aliases = {alias: name for name, module in trace.modules.items() for alias in module.names}
    called = [(call.module, trace.modules[call.module].names[-1]) for call in trace.module_calls]
    below = _params_below(trace)
    seen: set[str] = set()
    everywhere = {name for name, _ in called}
    lines: list[_Line] = []
    holders: dict[str, _Line] = {}
    open_at: dict[int, str] = {}
    for name, alias in called:
        parts = alias.split(".") if alias else []
        for depth in range(1, len(parts)):
            prefix = ".".join(parts[:depth])
            holder = aliases.get(prefix, prefix)
            if open_at.get(depth) != holder:
                line = holders.setdefault(holder, _Line(depth, below[prefix], leaf=False, repeated=False))
                line.repeated = (
                    holder in everywhere
                )  # the same line everywhere: when it comes again, its first place is marked too
                everywhere.add(holder)
                lines.append(line)
                _open(open_at, depth, holder)
        module = trace.modules[name]
        params = sum(prod(shape) for _, shape in module.parameters) if module.leaf else below[alias]
        lines.append(_Line(len(parts), params, module.leaf, repeated=name in seen))
        seen.add(name)
        _open(open_at, len(parts), name)
    return lines


def _open(open_at: dict[int, str], depth: int, name: str) -> None:
    """Make ``name`` the current module of its depth, and close the deeper ones."""
    open_at[depth] = name
    for deeper in [level for level in open_at if level > depth]:
        del open_at[deeper]


def _params_below(trace: Trace) -> dict[str, int]:
    """Return the parameters of all modules at or below each name, each parameter once."""
    found: dict[str, dict[str, int]] = {}
    for name, module in trace.modules.items():
        own = {module.tied.get(each, f"{name}.{each}"): prod(shape) for each, shape in module.parameters}
        parts = [alias.split(".") if alias else [] for alias in module.names]
        for prefix in {".".join(each[:depth]) for each in parts for depth in range(len(each) + 1)}:
            found.setdefault(prefix, {}).update(own)
    return {prefix: sum(below.values()) for prefix, below in found.items()}


# ── the tool itself ─────────────────────────────────────────────────────────────────────────────────────────────────


def _run(network: "nn.Module", tensors: "Sequence[Tensor]") -> ToolCount:
    from torchinfo import summary

    found = summary(network, input_data=tensors, device="cpu", verbose=0)
    names = {module: name for name, module in network.named_modules()}
    by_module: Counter[str] = Counter()
    for line in found.summary_list:
        by_module[names[line.module]] += line.macs if line.is_leaf_layer else 0
    return ToolCount(macs=found.total_mult_adds, params=found.total_params, by_module=by_module)


def _prints(macs: int) -> str:
    unit, size = next((each for each in _UNITS if macs >= each[1]), _UNITS[-1])
    return f"Total mult-adds (Units.{unit}): {macs / size:,.2f}"


_UNITS = (("TERABYTES", 10**12), ("GIGABYTES", 10**9), ("MEGABYTES", 10**6))

TOOL = Tool(
    name="torchinfo",
    distribution="torchinfo",
    version="1.8.0",
    source="torchinfo/layer_info.py and model_statistics.py",
    rule=_rule,
    params_rule=_params_rule,
    run=_run,
    prints=_prints,
    modules_only=True,
)
