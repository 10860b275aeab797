"""The sizes of a recurrent layer or cell of torch, from the shapes of its parameters."""

from typing import NamedTuple

from mpvit.operations import Shape
from mpvit.trace import Module

_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
"""Number of gates by class: matrix products with the input, and with the hidden state, a step."""

RECURRENT = (*_GATES, *(f"{kind}Cell" for kind in _GATES))
"""The classes of recurrent layers and cells."""


class RecurrentLayer(NamedTuple):
    """A recurrent layer, or a cell, which is one layer of one direction.

    Attributes:
        kind: its class without "Cell".
        gates: number of gates.
        inputs: features of the input.
        hidden: hidden units.
        layers: number of layers.
        directions: 2 if it is bidirectional, else 1.
        bias: whether it has biases.
        cell: whether it is a cell.
        weights: shapes of the forward direction's weights, layer by layer: (gates x hidden, inputs) and, on the hidden state,
            (gates x hidden, hidden or its projection).
    """

    kind: str
    gates: int
    inputs: int
    hidden: int
    layers: int
    directions: int
    bias: bool
    cell: bool
    weights: tuple[Shape, ...]


def recurrent_layer(module: Module, kind: str) -> RecurrentLayer | None:
    """Return the sizes of ``module``, whose class counts as ``kind``; None if that is no recurrent layer of torch."""
    if kind not in RECURRENT:
        return None
    gates = _GATES[kind.removesuffix("Cell")]
    names = [name for name, _ in module.parameters]
    weights = tuple(
        shape
        for name, shape in module.parameters
        if name.startswith(("weight_ih", "weight_hh")) and not name.endswith("_reverse")
    )
    return RecurrentLayer(
        kind=kind.removesuffix("Cell"),
        gates=gates,
        inputs=weights[0][1],
        hidden=weights[0][0] // gates,
        layers=len(weights) // 2,
        directions=2 if any(name.endswith("_reverse") for name in names) else 1,
        bias=any(name.startswith("bias") for name in names),
        cell=kind.endswith("Cell"),
        weights=weights,
    )
