"""The modules in which a tool differs from its rule: the rule is applied to the calls of one module at a time."""

from collections.abc import Mapping
from dataclasses import replace

from mpvit.tools import get_tool
from mpvit.trace import Trace


def differing(trace: Trace, tool: str, by_module: Mapping[str, int]) -> dict[str, int]:
    """Return by how many multiply-adds ``tool`` differs from its rule, for each module where it does, in the network's order.

    Shared modules are left out: how often a tool adds them up is not visible in the module itself.
    """
    rule = get_tool(tool).rule
    found = {}
    for name, module in trace.modules.items():
        if len(module.names) == 1:
            alone = _alone(trace, name)
            found[name] = by_module.get(name, 0) - alone.macs - sum(term.amount for term in rule(alone))
    return {name: amount for name, amount in found.items() if amount}


def _alone(trace: Trace, name: str) -> Trace:
    """Return the part of a trace that happens in one module itself, without inputs, over which some tools average."""
    places = [index for index, call in enumerate(trace.calls) if call.module == name]
    new: dict[int | None, int] = {old: index for index, old in enumerate(places)}
    graph = None
    if trace.graph is not None:
        graph = tuple(replace(each, call=new[each.call]) for each in trace.graph if each.call in new)
    return replace(
        trace,
        input_shapes=(),
        calls=tuple(trace.calls[index] for index in places),
        module_calls=tuple(call for call in trace.module_calls if call.module == name),
        patched_calls=tuple(each._replace(call=new.get(each.call)) for each in trace.patched_calls if each.module == name),
        graph=graph,
        dispatched_on_cpu=tuple(trace.dispatched_on_cpu[index] for index in places) if trace.dispatched_on_cpu else None,
    )
