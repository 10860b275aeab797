"""Operations as a ``Tape`` records them, one by one and against the layers of a torch network."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from mpvit.architecture.config import ModelConfig
from mpvit.dense import Task
from mpvit.network import NamedNetwork
from mpvit.operations import Block, Operation, Shape, walk
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


LAYERS: dict[type[nn.Module], str] = {
    nn.Conv2d: "conv", nn.ConvTranspose2d: "conv", nn.Linear: "linear", nn.Hardswish: "hardswish", nn.GELU: "gelu",
    nn.BatchNorm2d: "batch_norm", nn.LayerNorm: "layer_norm", nn.GroupNorm: "group_norm",
}  # fmt: skip
"""Kind of operation of each class of layers."""


def assert_layers_are_recorded(model: nn.Module, inputs: Sequence[Tensor], tree: Block) -> None:
    """Each recorded layer has the name, the parameters, and in each call the shapes of a layer of ``model``."""
    called: dict[str, list[tuple[str, Shape, Shape]]] = defaultdict(list)
    for name, module in model.named_modules():
        if kind := LAYERS.get(type(module)):

            def note(_: nn.Module, args: tuple[Tensor], output: Tensor, name: str = name, kind: str = kind) -> None:
                called[name].append((kind, tuple(args[0].shape), tuple(output.shape)))

            module.register_forward_hook(note)
    model(*inputs)
    recorded_calls: dict[str, list[tuple[str, Shape, Shape]]] = defaultdict(list)
    params: Counter[str] = Counter()
    for _, module_name, operation in walk(tree):
        params[module_name] += operation.params
        if operation.kind in LAYERS.values() and operation.calls:
            recorded_calls[module_name].append((operation.kind, operation.input_shape, operation.output_shape))
    assert recorded_calls == called
    owners = {name: sum(each.numel() for each in module.parameters(recurse=False)) for name, module in model.named_modules()}
    assert +params == +Counter(owners)
