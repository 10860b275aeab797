"""The graph that torch's tracer records of a forward pass: the outermost operators of ATen, each with its call of the trace.

The tracer opens the Python functions of torch, but no ``torch.autograd.Function`` and no scripted function, and drops what
nothing depends on. Tools that read its graph (fvcore) know no more than this. The network must be on the CPU: under the
tracer a size is a tensor, which the meta device refuses.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from mpvit.operations import Shape
from mpvit.trace import Call, GraphNode, renamed
from mpvit.trace.arguments import tensors_in
from mpvit.trace.functions import opened, operator_of
from mpvit.trace.module_stack import ModuleStack
from mpvit.trace.multiply_adds import multiplies

_AFFINE = {"batch_norm": 1, "instance_norm": 1, "layer_norm": 2, "group_norm": 2}
"""Position of each norm's weight among its arguments."""

_TRAINING, _TRANSPOSED = 5, 6
"""Positions of these arguments of batch_norm and _convolution."""


def graph_nodes(calls: Sequence[Call], network: nn.Module, inputs: Sequence[Tensor]) -> tuple[GraphNode, ...]:
    """Return the nodes of the graph of ``network(*inputs)``, whose trace has ``calls``; raise what the tracer raises.

    ``network`` is a copy that is thrown away, in evaluation mode on the CPU.
    """
    stack = ModuleStack(network, shapes=False)
    with torch.no_grad(), stack.watched(), _ScopeMode(stack):
        graph, _ = torch.jit._get_trace_graph(network, tuple(inputs))  # type: ignore[attr-defined,no-untyped-call]  # noqa: SLF001 - the bare tracer
    indices = _indices(calls)
    nodes = (_graph_node(node, indices) for node in graph.nodes() if node.kind().startswith("aten::"))
    return tuple(each for each in nodes if each is not None)


_APPLY = vars(Function)["apply"].__func__.__code__


class _ScopeMode(TorchFunctionMode):
    """Names the tracer's scope of each call of a function: its path, its operator, and a number among these."""

    def __init__(self, stack: ModuleStack) -> None:
        super().__init__()
        self.stack = stack
        self.calls: Counter[tuple[str, str]] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        kwargs = kwargs or {}
        if func is functional.multi_head_attention_forward:
            with self:
                return opened(func)(*args, **kwargs)
        state = torch._C._get_tracing_state()  # noqa: SLF001 - there is no public way to scopes
        operator = operator_of(func, args, kwargs)
        path = self.stack.innermost.path if self.stack.innermost else ""
        entered = not _is_inside_a_function(sys._getframe(1))  # noqa: SLF001 - the tracer does not say
        if entered:
            state.push_scope(f"{path}|{operator}|{self.calls[path, operator]}")
        try:
            out = func(*args, **kwargs)
        finally:
            if entered:
                state.pop_scope()
        if tensors_in(out, integers=multiplies(operator)):
            self.calls[path, operator] += 1
        return out


def _is_inside_a_function(frame: FrameType | None) -> bool:
    """Tell whether ``frame`` runs inside a ``torch.autograd.Function``, where the tracer fails on scopes."""
    while frame is not None and frame.f_code is not _APPLY:
        frame = frame.f_back
    return frame is not None


def _indices(calls: Sequence[Call]) -> dict[str, int]:
    """Return the index of each call by its scope."""
    numbers: Counter[tuple[str, str]] = Counter()
    indices = {}
    for index, call in enumerate(calls):
        key = (call.path, call.operator)
        indices[f"{call.path}|{call.operator}|{numbers[key]}"] = index
        numbers[key] += 1
    return indices


def _graph_node(node: Any, indices: dict[str, int]) -> GraphNode | None:  # noqa: ANN401 - a torch._C.Node
    operator = node.kind().removeprefix("aten::")
    inputs, outputs = list(node.inputs()), list(node.outputs())
    equation = ""
    affine = _AFFINE.get(operator)
    shapes = [_shape(value) for value in inputs]
    if operator == "einsum":
        equation = renamed(inputs[0].toIValue())
        shapes = [_shape(value) for value in inputs[1].node().inputs()]
    output = _shape(outputs[0])
    if output is None:
        return None
    return GraphNode(
        operator=operator,
        call=indices.get(node.scopeName().rpartition("/")[2]),
        operands=tuple(shape for shape in shapes if shape is not None),
        output=output,
        equation=equation,
        affine=affine is not None and shapes[affine] is not None,
        training=operator == "batch_norm" and bool(inputs[_TRAINING].toIValue()),
        transposed=operator == "_convolution" and bool(inputs[_TRANSPOSED].toIValue()),
    )


def _shape(value: Any) -> Shape | None:  # noqa: ANN401 - a torch._C.Value
    return tuple(value.type().sizes()) if value.isCompleteTensor() else None
