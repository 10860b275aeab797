"""What tools need to know of a recurrent layer or cell of torch: read off the shapes of its parameters."""

from typing import NamedTuple

from mpvit.operations import Shape
from mpvit.trace import Module

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
"""Products of the input and of the hidden state a step, by the class without "Cell"."""


class Direction(NamedTuple):
    """One direction of one layer: the shapes of its weights on input (gates x hidden, inputs) and on hidden state."""

    on_input: Shape
    on_hidden: Shape


class Recurrent(NamedTuple):
    """A recurrent layer: ``layers`` times ``directions`` of ``gates`` gates over ``hidden`` numbers.

    A cell is one layer of one direction. ``forward`` has the forward direction of each layer, from the first on.
    """

    kind: str
    gates: int
    inputs: int
    hidden: int
    layers: int
    directions: int
    bias: bool
    cell: bool
    forward: tuple[Direction, ...]


def recurrent(module: Module) -> Recurrent | None:
    """Return what a module is as a recurrent layer of torch; None if it is none."""
    kind = module.type.removesuffix("Cell")
    shapes = dict(module.parameters)
    gates, cell = GATES.get(kind), module.type.endswith("Cell")
    if gates is None:
        return None
    layers = 1 if cell else sum(name.startswith("weight_ih_l") and not name.endswith("_reverse") for name in shapes)
    names = [""] if cell else [f"_l{index}" for index in range(layers)]
    forward = tuple(Direction(shapes[f"weight_ih{name}"], shapes[f"weight_hh{name}"]) for name in names)
    return Recurrent(
        kind=kind,
        gates=gates,
        inputs=forward[0].on_input[1],
        hidden=forward[0].on_input[0] // gates,
        layers=layers,
        directions=2 if any(name.endswith("_reverse") for name in shapes) else 1,
        bias=any(name.startswith("bias") for name in shapes),
        cell=cell,
        forward=forward,
    )
