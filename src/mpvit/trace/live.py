"""The trace of any ``nn.Module``: one forward pass on the meta device, which computes nothing and takes no memory."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from mpvit.errors import MpvitError
from mpvit.measurement.machine import free_bytes
from mpvit.trace import FUSED_ATTENTION, Call, DispatchedOperator, Trace, renamed
from mpvit.trace.arguments import by_name, in_order, results_in, shape_of, tensors_in
from mpvit.trace.backward import backward_macs
from mpvit.trace.call_log import CallLog
from mpvit.trace.dispatched_operators import PRODUCTS, OperatorMode, merged
from mpvit.trace.function_patches import ORIGINAL, FunctionPatches
from mpvit.trace.functions import SUMLESS_PRODUCTS, call_style, computes, fused_on_the_cpu, opened, operator_of
from mpvit.trace.graph import graph_nodes
from mpvit.trace.module_stack import ModuleStack
from mpvit.trace.modules import modules_of
from mpvit.trace.multiply_adds import multiply_adds
from mpvit.user_model.isolation import copies, isolated


def trace_module(
    model: nn.Module,
    inputs: Sequence[Tensor],
    *,
    backward: bool = False,
    graph: bool = False,
    dispatched_on_cpu: bool = False,
) -> Trace:
    """Return the trace of ``model(*inputs)`` in evaluation mode, best on the meta device; leaves no trace on ``model``.

    With ``backward`` the backward pass runs too. ``graph`` and ``dispatched_on_cpu`` run copies on the CPU for what only these
    know; the trace does not have them if there is no memory for it, the network cannot be copied, or torch's tracer fails.
    Raises what the network raises, and ``MpvitError`` if two readings of a call differ.
    """
    trace = _trace(model, inputs, backward=backward)
    if graph:
        trace = replace(trace, graph=_on_cpu(graph_nodes, trace.calls, model, inputs))
    if dispatched_on_cpu:
        trace = replace(trace, dispatched_on_cpu=_on_cpu(_dispatched, trace.calls, model, inputs))
    return trace


def _trace(model: nn.Module, inputs: Sequence[Tensor], *, backward: bool = False) -> Trace:
    stack = ModuleStack(model)
    log = CallLog(model, stack)
    operators = OperatorMode(log)
    patches = FunctionPatches(log, operators)
    one_dnn = _without_one_dnn() if backward else contextlib.nullcontext()
    with _in_evaluation(model, inputs), torch.set_grad_enabled(backward), one_dnn, stack.watched():
        with patches.in_place(), operators, _FunctionMode(log, operators):
            output = model(*inputs)
        calling = {call.module for call in log.calls} | {call.module for call in stack.calls}
        trace = Trace(
            input_shapes=tuple(map(shape_of, inputs)),
            calls=tuple(log.calls),
            module_calls=stack.calls,
            modules=modules_of(stack.names, calling),
            patched_calls=patches.calls,
        )
        return replace(trace, backward=backward_macs(model, results_in(output), log)) if backward else trace


@contextlib.contextmanager
def _in_evaluation(model: nn.Module, inputs: Sequence[Tensor]) -> Iterator[None]:
    """Run the block with ``model`` in evaluation mode, and what it creates on the meta device if it is there itself."""
    training = [module for module in model.modules() if module.training]
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one opaque call, in which no product is visible
    on_meta = any(tensor.is_meta for tensor in (*inputs, *model.parameters()))
    try:
        model.eval()
        with torch.device("meta") if on_meta else contextlib.nullcontext():
            yield
    finally:
        for module in training:
            module.training = True
        torch.backends.mha.set_fastpath_enabled(fast_path)


@contextlib.contextmanager
def _without_one_dnn() -> Iterator[None]:
    """Run the block without oneDNN, whose operator of recurrent layers takes every gradient, needed or not."""
    enabled, *_ = torch.backends.mkldnn.set_flags(_enabled=False)
    try:
        yield
    finally:
        torch.backends.mkldnn.set_flags(_enabled=enabled)


_Read = TypeVar("_Read")


def _on_cpu(
    read: Callable[[Sequence[Call], nn.Module, Sequence[Tensor]], _Read],
    calls: Sequence[Call],
    model: nn.Module,
    inputs: Sequence[Tensor],
) -> _Read | None:
    """Return what ``read`` finds with copies of the network and its inputs on the CPU; None if that is not possible."""
    if sum(parameter.nbytes for parameter in model.parameters()) <= free_bytes():
        with contextlib.suppress(MpvitError), isolated("torch"):
            return read(calls, *copies(model, inputs, "cpu"))
    return None


def _dispatched(
    calls: Sequence[Call], network: nn.Module, inputs: Sequence[Tensor]
) -> tuple[tuple[DispatchedOperator, ...], ...] | None:
    """Return what the CPU's dispatcher runs for each of ``calls``; None if the network makes other calls there."""
    found = _trace(network, inputs).calls
    same = [(call.path, call.operator) for call in found] == [(call.path, call.operator) for call in calls]
    return tuple(call.dispatched for call in found) if same else None


_BIASED = ("conv", "linear", "bilinear")
"""Beginnings of the names of operators whose biases tools count."""


class _FunctionMode(TorchFunctionMode):
    """Logs each call of a function of torch that computes."""

    def __init__(self, log: CallLog, operators: OperatorMode) -> None:
        super().__init__()
        self.log, self.operators = log, operators

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        kwargs = kwargs or {}
        func = getattr(func, ORIGINAL, func)
        if func is functional.multi_head_attention_forward:
            with self:
                return opened(func)(*args, **kwargs)
        with self.operators.of_one_call() as dispatched:
            out = func(*args, **kwargs)
        integers = any(each.name in PRODUCTS for each in dispatched)
        given, results = (tensors_in(each, integers=integers) for each in (in_order(func, args, kwargs), out))
        if self.log.stack.innermost and given and results and computes(func, kwargs, given, results):
            operator = operator_of(func, args, kwargs)
            equation = renamed(args[0]) if operator == "einsum" and isinstance(args[0], str) else ""
            operators = merged(dispatched, elementwise=operator in SUMLESS_PRODUCTS)
            by_shapes = multiply_adds(operator, tuple(map(shape_of, given)), shape_of(results[0]), equation)
            macs = _agreed(operator, self.log.stack.innermost.path, by_shapes, sum(each.macs for each in operators))
            if operator == FUSED_ATTENTION and fused_on_the_cpu(args, kwargs):
                operators = (DispatchedOperator(FUSED_ATTENTION, macs),)
            style = call_style(func, sys._getframe(1))  # noqa: SLF001 - only the code distinguishes @ from .matmul()
            bias = operator.startswith(_BIASED) and by_name(func, args, kwargs).get("bias") is not None
            self.log.add(operator, style, given, results, operators, macs=macs, bias=bias, equation=equation)
        return out


def _agreed(operator: str, path: str, by_shapes: int | None, dispatched: int) -> int:
    """Return the multiply-adds on which both readings of a call agree; each of them may be unknown."""
    if by_shapes is None or by_shapes == dispatched:
        return dispatched
    if dispatched:
        raise MpvitError(
            f"{operator} in {path or 'the network'}: {by_shapes} multiply-adds by its shapes, {dispatched} by what torch runs",
            hint="a call that is read wrongly is not counted: please report how the code writes it",
        )
    return by_shapes
