"""Counts of parameters, multiply-adds and activations of this project's networks, in closed form or by a tool that runs."""

from collections import Counter
from dataclasses import replace
from math import prod

from mpvit.architecture.closed_form import require_lengths
from mpvit.architecture.config import ModelConfig
from mpvit.architecture.variants import get_config
from mpvit.counting import analytic
from mpvit.counting.published import published_count
from mpvit.counting.results import TOTAL, Count
from mpvit.dense.published import CONVENTION
from mpvit.errors import MpvitError, UsageError, unknown_name
from mpvit.measurement.machine import free_bytes
from mpvit.network import NamedNetwork
from mpvit.operations import walk
from mpvit.operations.conventions import CONVENTIONS
from mpvit.tools import TOOLS, Tool, get_tool
from mpvit.units import ITEM_BYTES

COUNTERS = ("analytic", *TOOLS)
"""Who can count: the closed form, and every tool."""

CUTS = (TOTAL, *analytic.PARTS)
"""The ways to show a classifier: whole, or cut into parts that sum to it."""

TASK_CUTS = (TOTAL, analytic.PART, *analytic.PARTS)
"""The ways to show a detector or segmenter."""


def count(
    model: str | ModelConfig,
    size: int | tuple[int, int] = 224,
    *,
    batch: int = 1,
    counter: str = "analytic",
    convention: str | None = None,
    name: str | None = None,
) -> Count:
    """Count one forward pass of ``model``, a variant's name or a configuration, in evaluation mode.

    ``size`` is the image's side or (height, width) in pixels. ``counter`` is one of ``COUNTERS``. ``convention`` is the
    counter's own unless given; only the analytic counter has a choice (``fvcore``, ``exact``, ``matmul``). ``name`` labels
    the result. Raises ``UsageError`` for wrong arguments and ``MpvitError`` if a tool fails.
    """
    config = get_config(model) if isinstance(model, str) else model
    label = name or (model if isinstance(model, str) else "model")
    network = NamedNetwork(label, config, (size, size) if isinstance(size, int) else size)
    return count_network(network, batch, counter=counter, convention=convention)


def count_network(network: NamedNetwork, batch: int = 1, *, counter: str = "analytic", convention: str | None = None) -> Count:
    """Count one forward pass of ``network`` as ``count`` does; the default convention of a task is ``published-dense``."""
    rule = check_convention(counter, convention, network)
    require_lengths(batch, *network.size)
    if counter == "analytic":
        counted, expected = analytic.count(network, batch, rule), None
    else:
        counted = _count_by_tool(network, batch, get_tool(counter), rule)
        expected = analytic.count(network, batch, rule).macs if rule in CONVENTIONS else None
    published = None if network.task else published_count(network.config, counted.input_shape)
    return replace(counted, published=published, closed_form_macs=expected)


def count_parts(network: NamedNetwork, by: str, batch: int = 1, *, convention: str | None = None) -> list[Count]:
    """Count, in closed form, each part of a network: by ``stage``, ``path``, ``kind`` or ``layer``, or ``part`` of a task.

    The parts sum to the total in every figure. Other arguments and errors are those of ``count_network``.
    """
    return analytic.count_parts(network, batch, check_convention("analytic", convention, network), by)


def try_count(network: NamedNetwork, batch: int = 1, *, counter: str, convention: str | None) -> Count:
    """Count as ``count_network``, but return a failure of the tool as a count with an ``error``."""
    try:
        return count_network(network, batch, counter=counter, convention=convention)
    except UsageError:
        raise
    except MpvitError as error:
        rule = check_convention(counter, convention, network)
        return Count.of(network, batch, counter, rule, params=None, macs=None, activations=None, error=str(error))


def _count_by_tool(network: NamedNetwork, batch: int, tool: Tool, convention: str) -> Count:
    if not is_installed(tool.name):
        raise MpvitError(f"{tool.name} is not installed", hint=f"pip install {tool.distribution}")
    operations = [operation for _, _, operation in walk(network.tree(batch))]
    if tool.keeps_outputs:
        elements = sum(operation.calls * prod(operation.output_shape) for operation in operations)
        needed, free = ITEM_BYTES["float32"] * elements, free_bytes()
        if needed > free:
            room = (
                f"its trace of {network.input_shapes(batch)[0]} holds about {needed / 1e9:.0f} GB, {free / 1e9:.0f} GB are free"
            )
            raise MpvitError(f"{tool.name} failed: {room}", hint="the analytic counter needs no memory and no other tool")
    model, inputs = network.on_meta(batch)
    found = tool.count(model, inputs)
    functions = Counter(operation.kind for operation in operations if tool.modules_only and not operation.module)
    return Count.of(
        network,
        batch,
        tool.name,
        convention,
        params=sum(each.numel() for each in model.parameters()) if found.params is None else found.params,
        macs=found.macs,
        activations=found.activations,
        by_kind=dict(found.by_kind),
        not_counted=dict(found.not_counted) | functions,
    )


def is_installed(counter: str) -> bool:
    """Tell whether a counter can run here: the closed form, and each tool that is installed."""
    return counter == "analytic" or get_tool(counter).installed_version is not None


def check_convention(counter: str, convention: str | None, network: NamedNetwork | None = None) -> str:
    """Return the convention that ``counter`` counts by; raise ``UsageError`` for one that it does not have."""
    if counter not in COUNTERS:
        raise unknown_name("counter", counter, COUNTERS)
    if counter == "analytic":
        own = CONVENTION if network and network.task else "fvcore"
    else:
        own = get_tool(counter).convention or counter
    if convention is None or convention == own:
        return own
    if convention not in CONVENTIONS:
        raise unknown_name("convention", convention, CONVENTIONS)
    if counter != "analytic":
        raise UsageError(
            f"convention {convention!r}: the counter {counter} counts by {own!r} only",
            hint="the analytic counter has every convention",
        )
    return convention


def input_shape(config: ModelConfig, size: int | tuple[int, int], batch: int) -> tuple[int, int, int, int]:
    """Return (B, C, H, W); raise ``UsageError`` for a length below 1."""
    height, width = (size, size) if isinstance(size, int) else size
    require_lengths(batch, height, width)
    return (batch, config.in_channels, height, width)
