"""``torchinfo.summary`` (1.8.0): parameters of leaf modules times what it takes for their output's positions."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from mpvit.operations import Shape
from mpvit.reconcile import Rule, Term, left_out
from mpvit.trace import Module, Trace


def _macs(trace: Trace) -> Iterator[Term]:
    yield from left_out(
        (call for call in trace.calls if not _is_seen(trace.modules[call.module])),
        "a function, not a module without modules below it",
    )
    exact: dict[str, int] = {}
    for call in trace.calls:
        exact[call.path] = exact.get(call.path, 0) + call.macs
    counted: dict[tuple[str, str], int] = {}
    for module_call in trace.module_calls:
        module = trace.modules[module_call.module]
        if _is_seen(module) and module_call.output:
            place = module_call.path, module_call.module
            counted[place] = counted.get(place, 0) + _counted(module, module_call.output)
    for (path, name), macs in counted.items():
        module, missing = trace.modules[name], macs - exact.get(path, 0)
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
    """A line of its summary: a module, how deep it is registered, and whether an earlier line was the same module."""

    depth: int
    params: int
    leaf: bool
    repeated: bool


def _params(trace: Trace) -> Iterator[Term]:
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
    """Return the parameters of a line that no deeper line behind it has; below 0 where those have more."""
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
    """Return the lines in the order of calls, a module that only holds others before the first of them."""
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
                line.repeated = holder in everywhere  # one line in all its places: the first is marked with the second
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
    """Make ``name`` the current module of its depth; what was open below it is no more."""
    open_at[depth] = name
    for deeper in [level for level in open_at if level > depth]:
        del open_at[deeper]


def _params_below(trace: Trace) -> dict[str, int]:
    """Return the parameters of all modules at or below each name, each of them once."""
    found: dict[str, dict[str, int]] = {}
    for name, module in trace.modules.items():
        own = {module.tied.get(each, f"{name}.{each}"): prod(shape) for each, shape in module.parameters}
        parts = [alias.split(".") if alias else [] for alias in module.names]
        for prefix in {".".join(each[:depth]) for each in parts for depth in range(len(each) + 1)}:
            found.setdefault(prefix, {}).update(own)
    return {prefix: sum(below.values()) for prefix, below in found.items()}


RULE = Rule(_macs, _params, "torchinfo/layer_info.py and model_statistics.py")
