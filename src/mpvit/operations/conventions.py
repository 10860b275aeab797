"""Conventions of counting multiply-adds: all counters agree on the shapes, but not on what to add up."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from mpvit.operations import MULTIPLYING, Cost, Node, Operation, occurrences


def _exact_macs(operation: Operation) -> int:
    return operation.macs


def dispatched_macs(operation: Operation) -> int:
    """Return the MACs that torch's counter counts: it leaves out an einsum over an axis of length 1, which is elementwise."""
    return operation.macs if operation.macs > prod(operation.output_shape) else 0


def _fvcore_rounded(operation: Operation) -> int:
    """Return half of the FLOPs that numpy prints for an einsum: its cost plus one, with four significant digits."""
    return int(float(f"{2 * operation.macs + 1:.3e}") // 2)


def _per_output(factor: int) -> Callable[[Operation], int]:
    return lambda operation: factor * prod(operation.output_shape)


def _input_elements(operation: Operation) -> int:
    return prod(operation.input_shape)


Convention = dict[str, Callable[[Operation], int]]
"""For each counted kind of operation, the function that returns the MACs of one call. Other kinds are not counted."""

_NORMS: Convention = {
    "batch_norm": _per_output(2),  # one multiply, one add: at inference it is an affine map
    "layer_norm": _per_output(5),
    "group_norm": _per_output(5),
}

_EXACT: Convention = {
    **dict.fromkeys(MULTIPLYING, _exact_macs),
    **_NORMS,
    "pool": _input_elements,
    "upsample_nearest2d": _per_output(1),
    "upsample_bilinear2d": _per_output(4),
}

CONVENTIONS: dict[str, Convention] = {
    "fvcore": {**_EXACT, "matmul": _fvcore_rounded},
    "exact": _EXACT,
    "matmul": {**dict.fromkeys(MULTIPLYING, _exact_macs), "matmul": dispatched_macs},
    "published-dense": {"conv": _exact_macs, "linear": _exact_macs, **_NORMS},
}
"""The conventions by name.

``fvcore`` is that of the paper's classifiers, with fvcore's rounding of einsum. ``exact`` has the same rules without rounding.
``matmul`` counts only convolutions, linear layers and matrix products, as torch's own counter does. ``published-dense``
explains the published figures of detectors and segmenters: convolutions, linear layers and norms, without einsum.
"""


@dataclass(frozen=True, slots=True)
class Tally:
    """The cost of a tree of operations under one convention.

    Attributes:
        cost: parameters, multiply-adds and activations.
        by_kind: multiply-adds of each counted kind of operation.
        not_counted: number of calls of each other kind.
    """

    cost: Cost
    by_kind: dict[str, int]
    not_counted: dict[str, int]


def tally(node: Node, convention: str) -> Tally:
    """Add up every operation below ``node`` under the ``convention`` (a key of ``CONVENTIONS``)."""
    rules = CONVENTIONS[convention]
    params = activations = 0
    by_kind = dict.fromkeys(rules, 0)
    not_counted: dict[str, int] = {}
    for operation, times in occurrences(node):
        params += times * operation.params
        activations += times * operation.activations
        calls = times * operation.calls
        if rule := rules.get(operation.kind):
            by_kind[operation.kind] += calls * rule(operation)
        elif calls:
            not_counted[operation.kind] = not_counted.get(operation.kind, 0) + calls
    return Tally(Cost(params, sum(by_kind.values()), activations), by_kind, not_counted)


def multiply_adds(node: Node) -> int:
    """Return the exact multiply-adds of all convolutions, linear layers and matrix products below ``node``."""
    return sum(times * operation.calls * operation.macs for operation, times in occurrences(node))
