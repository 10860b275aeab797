"""The tools whose counts are explained: which version each rule is made for, the rule, and how to run the tool."""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from mpvit.errors import unknown_name
from mpvit.reconcile import Rule, printed
from mpvit.registry import resolve


class Tool(NamedTuple):
    """One counter: the distribution that it is installed by, the version its rule is made for, rule and adapter.

    ``prints`` writes a number of multiply-adds as the tool does.
    """

    distribution: str
    version: str
    rule: str
    live: str
    prints: Callable[[int], str]


_RULES, _LIVE = "mpvit.reconcile.rules", "mpvit.counting"

TOOLS = {
    "torch": Tool("torch", "2.13.0", f"{_RULES}.torch:RULE", f"{_LIVE}.torch_dispatch:run", printed.flops),
    "fvcore": Tool("fvcore", "0.1.5.post20221221", f"{_RULES}.fvcore:RULE", f"{_LIVE}.fvcore:run", printed.whole),
    "thop": Tool("thop", "0.1.1-2209072238", f"{_RULES}.thop:RULE", f"{_LIVE}.thop:run", printed.real),
    "ultralytics-thop": Tool("ultralytics-thop", "2.2.3", f"{_RULES}.ultralytics_thop:RULE", f"{_LIVE}.thop:run", printed.real),
    "torchinfo": Tool("torchinfo", "1.8.0", f"{_RULES}.torchinfo:RULE", f"{_LIVE}.torchinfo:run", printed.torchinfo),
    "ptflops-pytorch": Tool(
        "ptflops", "0.7.5", f"{_RULES}.ptflops_pytorch:RULE", f"{_LIVE}.ptflops:run_pytorch", printed.ptflops
    ),
    "ptflops-aten": Tool("ptflops", "0.7.5", f"{_RULES}.ptflops_aten:RULE", f"{_LIVE}.ptflops:run_aten", printed.ptflops),
    "calflops": Tool("calflops", "0.3.2", f"{_RULES}.calflops:RULE", f"{_LIVE}.calflops:run", printed.profiler),
    "deepspeed": Tool("deepspeed", "0.19.8", f"{_RULES}.deepspeed:RULE", f"{_LIVE}.deepspeed:run", printed.profiler),
}


def get_tool(name: str) -> Tool:
    """Return the tool of that name; raise ``UsageError`` with the nearest one for any other."""
    if name not in TOOLS:
        raise unknown_name("tool", name, TOOLS)
    return TOOLS[name]


def get_rule(tool: Tool) -> Rule:
    """Return the tool's rule."""
    rule: Rule = resolve(tool.rule)
    return rule


def installed_version(tool: Tool) -> str | None:
    """Return the version that is installed, without what follows a plus (+cpu); None if none is."""
    try:
        return version(tool.distribution).partition("+")[0]
    except PackageNotFoundError:
        return None
