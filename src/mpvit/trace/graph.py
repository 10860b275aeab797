"""What torch's tracer records of a forward pass: the operators of ATen, the outermost of each call, by call of a trace.

It opens the Python functions of torch, not what stands inside a ``torch.autograd.Function`` or a scripted function, and
drops what nothing depends on. Tools that read its graph (fvcore) see no more than this. It runs the network on the CPU:
under the tracer a size is a tensor, which kernels of the meta device refuse.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.autograd import Function
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from mpvit.trace import GraphNode, Trace, renamed
from mpvit.trace.arguments import tensors_in
from mpvit.trace.functions import opened, operator_of
from mpvit.trace.live import Recorder
from mpvit.trace.multiply_adds import multiplies

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from torch import Tensor

    from mpvit.operations import Shape

_AFFINE = {"batch_norm": 1, "instance_norm": 1, "layer_norm": 2, "group_norm": 2}
"""Where each norm's weight stands among its arguments."""

_TRAINING, _TRANSPOSED = 5, 6
"""Where batch_norm and _convolution have these arguments."""


def with_graph(trace: Trace, model: nn.Module, inputs: Sequence[Tensor]) -> Trace:
    """Return ``trace`` with what torch's tracer records of ``model(*inputs)``, the network that it is of.

    ``model`` is a copy to throw away, in evaluation mode on the CPU. Raises what the tracer raises where it cannot follow the
    network: no tool that reads the graph can either.
    """
    scopes = _Scopes(model)
    with torch.no_grad(), scopes:
        graph, _ = torch.jit._get_trace_graph(model, tuple(inputs))  # type: ignore[attr-defined,no-untyped-call]  # noqa: SLF001 - the bare tracer
    places = _places(trace)
    nodes = (_graph_node(node, places) for node in graph.nodes() if node.kind().startswith("aten::"))
    return replace(trace, graph=tuple(each for each in nodes if each is not None))


_APPLY = vars(Function)["apply"].__func__.__code__


class _Scopes(TorchFunctionMode):
    """Names the scope of each call of a function: its path, its operator, and which of these it is."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.recorder = Recorder(model)
        self.seen: Counter[tuple[str, str]] = Counter()
        for module in model.modules():
            module.register_forward_pre_hook(lambda module, _: self.recorder.enter(module, ()))
            module.register_forward_hook(lambda module, *_: self.recorder.leave(module, (), ()))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        kwargs = kwargs or {}
        if func is functional.multi_head_attention_forward:
            with self:
                return opened(func)(*args, **kwargs)
        state = torch._C._get_tracing_state()  # noqa: SLF001 - where scopes are, there is no public way
        operator = operator_of(func, args, kwargs)
        path = self.recorder.stack[-1][0] if self.recorder.stack else ""
        entered = not _is_inside_a_function(sys._getframe(1))  # noqa: SLF001 - the tracer does not say
        if entered:
            state.push_scope(f"{path}|{operator}|{self.seen[path, operator]}")
        try:
            out = func(*args, **kwargs)
        finally:
            if entered:
                state.pop_scope()
        if tensors_in(out, whole=multiplies(operator)):
            self.seen[path, operator] += 1
        return out


def _is_inside_a_function(frame: FrameType | None) -> bool:
    """Tell whether ``frame`` runs inside a ``torch.autograd.Function``, where the tracer breaks on scopes."""
    while frame is not None and frame.f_code is not _APPLY:
        frame = frame.f_back
    return frame is not None


def _places(trace: Trace) -> dict[str, int]:
    """Return the index of each call of a trace by its scope."""
    seen: Counter[tuple[str, str]] = Counter()
    places = {}
    for index, call in enumerate(trace.calls):
        key = (call.path, call.operator)
        places[f"{call.path}|{call.operator}|{seen[key]}"] = index
        seen[key] += 1
    return places


def _graph_node(node: Any, places: dict[str, int]) -> GraphNode | None:  # noqa: ANN401 - a torch._C.Node
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
        call=places.get(node.scopeName().rpartition("/")[2]),
        operands=tuple(shape for shape in shapes if shape is not None),
        output=output,
        equation=equation,
        affine=affine is not None and shapes[affine] is not None,
        training=operator == "batch_norm" and bool(inputs[_TRAINING].toIValue()),
        transposed=operator == "_convolution" and bool(inputs[_TRANSPOSED].toIValue()),
    )


def _shape(value: Any) -> Shape | None:  # noqa: ANN401 - a torch._C.Value
    return tuple(value.type().sizes()) if value.isCompleteTensor() else None
