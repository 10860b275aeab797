"""What of an operation counts how much: all counters agree on the shapes, none on what to add up."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod

from mpvit.operations import MULTIPLYING, Cost, Node, Operation


def _multiply_adds(operation: Operation) -> int:
    return operation.macs


def dispatched_macs(operation: Operation) -> int:
    """Torch dispatches an einsum over an axis of length 1 as an elementwise product, which its counter passes over."""
    return operation.macs if operation.macs > prod(operation.output_shape) else 0


def _fvcore_rounded(operation: Operation) -> int:
    """Fvcore halves the FLOPs that numpy prints of an einsum: one more than its cost, with four significant digits."""
    return int(float(f"{2 * operation.macs + 1:.3e}") // 2)


def _per_output(factor: int) -> Callable[[Operation], int]:
    return lambda operation: factor * prod(operation.output_shape)


def _input_elements(operation: Operation) -> int:
    return prod(operation.input_shape)


Convention = dict[str, Callable[[Operation], int]]
"""From an operation's kind to the MACs that one call of it is worth. Kinds that are absent are not counted."""

_NORMS: Convention = {
    "batch_norm": _per_output(2),  # one multiply, one add: at inference it is an affine map
    "layer_norm": _per_output(5),
    "group_norm": _per_output(5),
}

_EXACT: Convention = {
    **dict.fromkeys(MULTIPLYING, _multiply_adds),
    **_NORMS,
    "pool": _input_elements,
    "upsample_nearest2d": _per_output(1),
    "upsample_bilinear2d": _per_output(4),
}

CONVENTIONS: dict[str, Convention] = {
    "fvcore": {**_EXACT, "matmul": _fvcore_rounded},
    "exact": _EXACT,
    "matmul": {"conv": _multiply_adds, "linear": _multiply_adds, "matmul": dispatched_macs, "sdpa": _multiply_adds},
    "published-dense": {"conv": _multiply_adds, "linear": _multiply_adds, **_NORMS},
}
"""``fvcore`` is the published one (its einsum rounding included), ``exact`` the same rules with exact einsum, ``matmul``
convolutions, linear layers and matmuls alone, as torch's own counter has it. ``published-dense`` explains what is published
of detectors and segmenters: convolutions, linear layers and norms, no einsum."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What a tree costs under one convention.

    ``by_kind`` maps each counted kind to its MACs and ``not_counted`` each other kind to its number of calls.
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
    for operation, times in _distinct(node):
        params += times * operation.params
        activations += times * operation.activations
        calls = times * operation.calls
        if rule := rules.get(operation.kind):
            by_kind[operation.kind] += calls * rule(operation)
        elif calls:
            not_counted[operation.kind] = not_counted.get(operation.kind, 0) + calls
    return Tally(Cost(params, sum(by_kind.values()), activations), by_kind, not_counted)


def multiply_adds(node: Node) -> int:
    """Return the multiply-adds of every convolution, linear layer and matmul below ``node``, exactly."""
    return sum(times * operation.calls * operation.macs for operation, times in _distinct(node))


def _distinct(node: Node) -> Iterator[tuple[Operation, int]]:
    """Yield each operation object below ``node`` with how often it occurs: equal layers are one object in a tree."""
    pending: list[tuple[Node, int]] = [(node, 1)]
    while pending:
        current, times = pending.pop()
        if isinstance(current, Operation):
            yield current, times
            continue
        occurrences: dict[int, list[Node]] = {}
        for child in current.children.values():
            occurrences.setdefault(id(child), []).append(child)
        pending.extend((same[0], times * len(same)) for same in occurrences.values())
