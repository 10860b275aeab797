"""The trace of any ``nn.Module``: one forward pass on the meta device, which computes nothing and takes no memory."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from mpvit.errors import MpvitError
from mpvit.trace import FUSED_ATTENTION, Call, DispatchedOperator, ModuleCall, Trace, renamed
from mpvit.trace.arguments import argument, in_order, results_in, shape_of, shapes_in, tensors_in
from mpvit.trace.backward import backward_macs
from mpvit.trace.dispatched import PRODUCTS, Dispatched, merged
from mpvit.trace.function_patches import ORIGINAL, FunctionPatches
from mpvit.trace.functions import SUMLESS_PRODUCTS, call_style, computes, fused_on_the_cpu, opened, operator_of
from mpvit.trace.modules import has_shapes, modules_of, names_of
from mpvit.trace.multiply_adds import BIASED, multiply_adds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def trace_module(model: nn.Module, inputs: Sequence[Tensor], *, backward: bool = False) -> Trace:
    """Return the trace of ``model(*inputs)`` in evaluation mode, best on the meta device; leaves no trace on ``model``.

    With ``backward`` the backward pass runs too. Raises what the network raises, and ``MpvitError`` where two readings of a
    call differ.
    """
    recorder = Recorder(model)
    training = [module for module in model.modules() if module.training]
    fast_path = torch.backends.mha.get_fastpath_enabled()
    hooks = [module.register_forward_pre_hook(recorder.enter) for module in model.modules()]
    hooks += [module.register_forward_hook(recorder.leave, with_kwargs=False, always_call=True) for module in model.modules()]
    torch.backends.mha.set_fastpath_enabled(False)  # one opaque call, in which nobody could see what is multiplied
    try:
        model.eval()
        with torch.set_grad_enabled(backward), _without_one_dnn() if backward else contextlib.nullcontext():
            with recorder.patches.in_place(), recorder.dispatched, recorder:
                output = model(*inputs)
            trace = recorder.trace(inputs)
            if backward:
                trace = replace(trace, backward=backward_macs(model, results_in(output), recorder.made, recorder.path))
    finally:
        for module in training:
            module.training = True
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for hook in hooks:
            hook.remove()
    return trace


@contextlib.contextmanager
def _without_one_dnn() -> Iterator[None]:
    """Run the block without oneDNN, whose kernel of recurrent layers takes every gradient, asked for or not."""
    enabled, *_ = torch.backends.mkldnn.set_flags(_enabled=False)
    try:
        yield
    finally:
        torch.backends.mkldnn.set_flags(_enabled=enabled)


class Recorder(TorchFunctionMode):
    """Writes down each call of a function that computes, and in which module's forward it is."""

    def __init__(self, model: nn.Module) -> None:
        """Start with nothing recorded."""
        super().__init__()
        self.names = names_of(model)
        self.learned = {id(tensor) for tensor in [*model.parameters(), *model.buffers()]}
        self.stack: list[tuple[str, str]] = []
        self.calls: list[Call] = []
        self.module_calls: list[ModuleCall | None] = []
        self.open: list[int] = []
        self.paths: dict[nn.Module, str] = {}
        self.made: list[tuple[int, tuple[str, str]]] = []
        self.dispatched = Dispatched(self.uncalled)
        self.patches = FunctionPatches(self._place, lambda: len(self.calls))

    def trace(self, inputs: Sequence[Tensor]) -> Trace:
        """Return what was recorded of a forward pass over ``inputs``."""
        calling = {call.module for call in (*self.calls, *self.module_calls) if call}
        return Trace(
            input_shapes=tuple(map(shape_of, inputs)),
            calls=tuple(self.calls),
            module_calls=tuple(call for call in self.module_calls if call),
            modules=modules_of(self.names, calling),
            patched_calls=self.patches.patched_calls(),
        )

    def enter(self, module: nn.Module, inputs: Any) -> None:  # noqa: ANN401
        """Go into the forward of ``module``: below its caller, by its name there or, elsewhere registered, its last word.

        What runs again without a caller, in the backward pass, is where it was last.
        """
        own = self.names[module][0]
        path = self.paths.get(module, own)
        if self.stack:
            path, caller = self.stack[-1]
            prefix = f"{caller}." if caller else ""
            inside = [name.removeprefix(prefix) for name in self.names[module] if name.startswith(prefix)]
            local = min(inside, key=lambda name: name.count("."), default=own.rpartition(".")[2])
            path = f"{path}.{local}".strip(".")
        self.paths[module] = path
        self.stack.append((path, own))
        self.open.append(len(self.module_calls))
        shapes = shapes_in(inputs) if has_shapes(module) else ()
        noted = path != own or len(self.names[module]) > 1 or any(True for _ in module.parameters())
        self.module_calls.append(ModuleCall(path, own, shapes) if noted else None)

    def leave(self, module: nn.Module, _: Any, outputs: Any) -> None:  # noqa: ANN401
        """Come out of it."""
        self.stack.pop()
        index = self.open.pop()
        call, results = self.module_calls[index], tensors_in(outputs)
        if call and results and has_shapes(module):
            self.module_calls[index] = replace(call, output=shape_of(results[0]))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        """Run a function of torch, and write it down where it computes."""
        kwargs = kwargs or {}
        func = getattr(func, ORIGINAL, func)
        if func is functional.multi_head_attention_forward:
            with self:
                return opened(func)(*args, **kwargs)
        before, self.dispatched.called = len(self.dispatched.kernels), True
        try:
            out = func(*args, **kwargs)
        finally:
            self.dispatched.called = False
        whole = any(kernel.name in PRODUCTS for kernel in self.dispatched.kernels[before:])
        given, results = (tensors_in(each, whole=whole) for each in (in_order(func, args, kwargs), out))
        if self.stack and given and results and computes(func, kwargs, given, results):
            operator = operator_of(func, args, kwargs)
            shapes, output = tuple(map(shape_of, given)), shape_of(results[0])
            equation = renamed(args[0]) if operator == "einsum" and isinstance(args[0], str) else ""
            kernels = merged(self.dispatched.kernels[before:], unsummed=operator in SUMLESS_PRODUCTS)
            macs = self._agreed(operator, multiply_adds(operator, shapes, output, equation), kernels)
            if operator == FUSED_ATTENTION and fused_on_the_cpu(args, kwargs):
                kernels = (DispatchedOperator(FUSED_ATTENTION, macs),)
            how = call_style(func, sys._getframe(1))  # noqa: SLF001 - only the code tells @ from .matmul()
            biased = operator in BIASED and argument(func, args, kwargs, BIASED[operator]) is not None
            self._note(operator, how, given, results, macs=macs, dispatched=kernels, bias=biased, equation=equation)
        return out

    def uncalled(self, operator: str, args: Any, out: Any) -> None:  # noqa: ANN401
        """Write down an operator that no function of torch has called: of a scripted module, or of another library."""
        given, results = (tensors_in(each, whole=operator in PRODUCTS) for each in (args, out))
        if self.stack and given and results:
            kernels = merged(self.dispatched.kernels[-1:], unsummed=False) if operator in PRODUCTS else ()
            macs = sum(kernel.macs for kernel in kernels)
            self._note(operator, "dispatched", given, results, macs=macs, dispatched=kernels)

    def _note(self, operator: str, how: str, given: Sequence[Tensor], results: Sequence[Tensor], **work: Any) -> None:  # noqa: ANN401
        path, module = self.stack[-1]
        self.made.append((torch.autograd._get_sequence_nr(), (path, operator)))  # type: ignore[attr-defined]  # noqa: SLF001 - no public name
        self.calls.append(
            Call(
                operator=operator,
                call_style=how,
                path=path,
                module=module,
                operands=tuple(map(shape_of, given)),
                learned=tuple(index for index, tensor in enumerate(given) if id(tensor) in self.learned),
                output=shape_of(results[0]),
                bytes_read=sum(tensor.numel() * tensor.element_size() for tensor in given),
                bytes_written=sum(tensor.numel() * tensor.element_size() for tensor in results),
                **work,
            )
        )

    def _agreed(self, operator: str, macs: int | None, kernels: Sequence[DispatchedOperator]) -> int:
        """Return the multiply-adds on which both readings of a call agree; a kernel that nobody knows has no reading."""
        dispatched = sum(kernel.macs for kernel in kernels)
        if macs is None or macs == dispatched:
            return dispatched
        if dispatched:
            place = self.stack[-1][0] or "the network"
            raise MpvitError(
                f"{operator} in {place}: {macs} multiply-adds by its shapes, {dispatched} by what torch runs",
                hint="a call that is read wrongly is not counted: please report how the code writes it",
            )
        return macs

    def path(self) -> str | None:
        """Return the path of the module whose forward is running; None outside of all."""
        return self.stack[-1][0] if self.stack else None

    def _place(self) -> str | None:
        return self.stack[-1][1] if self.stack and not self.dispatched.inside else None
