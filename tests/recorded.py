"""Single operations as a ``Tape`` records them."""

from collections.abc import Callable, Sequence
from typing import Any

from mpvit.config import ModelConfig
from mpvit.dense import Task
from mpvit.network import NamedNetwork
from mpvit.operations import Operation, Shape
from mpvit.operations.tape import Tape
from mpvit.operations.tensor_spec import new
from mpvit.trace import Trace
from mpvit.trace.closed_form import trace_network


def recorded(record: Callable[[Tape], Any]) -> Operation:
    """The one operation that ``record`` records in evaluation mode."""
    tape = Tape()
    record(tape)
    (operation,) = tape.tree().children.values()
    assert isinstance(operation, Operation)
    return operation


def conv(shape: Shape, out: int, kernel: int, **options: Any) -> Operation:  # noqa: ANN401 - those of ``Tape.conv``
    return recorded(lambda tape: tape.conv("it", new(shape), out, kernel, **options))


def linear(shape: Shape, out: int, *, bias: bool = True) -> Operation:
    return recorded(lambda tape: tape.linear("it", new(shape), out, bias=bias))


def norm(kind: str, shape: Shape) -> Operation:
    return recorded(lambda tape: tape.norm("it", kind, new(shape)))


def einsum(equation: str, left: Shape, right: Shape) -> Operation:
    return recorded(lambda tape: tape.einsum("it", equation, new(left), new(right)))


def elementwise(kind: str, *shapes: Shape) -> Operation:
    return recorded(lambda tape: tape.elementwise("it", kind, *map(new, shapes)))


def pool(shape: Shape, side: int) -> Operation:
    return recorded(lambda tape: tape.adaptive_pool("it", new(shape), side))


def upsample(mode: str, shape: Shape, grid: Sequence[int]) -> Operation:
    return recorded(lambda tape: tape.upsample("it", mode, new(shape), grid))


def trace_config(
    config: ModelConfig, batch: int, height: int, width: int, *, layout: str = "project", task: Task | None = None
) -> Trace:
    """The trace of a network in closed form."""
    return trace_network(NamedNetwork("network", config, (height, width), task), batch, layout=layout)
