"""The trace of any ``nn.Module``: one forward pass on the meta device, which computes nothing and takes no memory."""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from mpvit.errors import MpvitError
from mpvit.trace import Call, Module, Trace
from mpvit.trace.multiply_adds import BIASED, multiply_adds
from mpvit.units import FLOPS_PER_MAC, times

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mpvit.operations import Shape
    from mpvit.user_model import UserModel

_LAYOUT = frozenset({
    "reshape", "reshape_as", "view", "view_as", "flatten", "unflatten", "contiguous", "clone", "detach", "to", "type",
    "type_as", "float", "double", "half", "bfloat16", "cpu", "cuda", "repeat", "permute", "transpose", "movedim", "squeeze",
    "unsqueeze", "expand", "expand_as", "unbind", "split", "chunk", "narrow", "roll", "flip",
})  # fmt: skip
"""Operators that at most copy: what they move depends on the memory format, so a trace leaves them out."""

_FACTORIES = ("empty", "zeros", "ones", "full", "new_", "rand", "arange")
"""How the names of operators begin that only take a tensor's shape."""

_NAMES = {"iadd": "add", "radd": "add", "isub": "sub", "imul": "mul", "rmul": "mul", "itruediv": "div", "truediv": "div"}
"""Of operators that are methods behind a sign, without their underscores."""


def trace_user_model(model: UserModel) -> Trace:
    """Return the trace of a user's model: on the meta device or, where it cannot run there, on the CPU.

    Raises ``MpvitError`` where its forward pass fails.
    """
    try:
        with torch.device("meta"):
            return trace_module(model.make().to("meta"), model.tensors("meta"))
    except MpvitError:
        raise
    except Exception:  # noqa: BLE001 - any model, any reason
        network = model.make()
    try:
        return trace_module(network, model.tensors("cpu"))
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        shapes = ", ".join(times(each.shape) for each in model.inputs)
        raise MpvitError(
            f"{model.name} failed on {shapes}: {reason}", hint="--input gives the shape, as 1x3x224x224"
        ) from error


def trace_module(model: nn.Module, inputs: Sequence[Tensor]) -> Trace:
    """Return the trace of ``model(*inputs)``, best on the meta device; leaves no trace on ``model`` or the random state.

    Raises what the forward pass raises.
    """
    recorder = _Recorder(model)
    fast_path = torch.backends.mha.get_fastpath_enabled()
    hooks = [module.register_forward_pre_hook(recorder.enter) for module in model.modules()]
    hooks += [module.register_forward_hook(recorder.leave, always_call=True) for module in model.modules()]
    torch.backends.mha.set_fastpath_enabled(False)  # one opaque call, in which nobody could see what is multiplied
    try:
        with torch.no_grad(), recorder.dispatched, recorder:
            model(*inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for hook in hooks:
            hook.remove()
    shapes = tuple(tuple(tensor.shape) for tensor in inputs)
    return Trace(shapes, tuple(recorder.calls), _modules(recorder))


class _Dispatched(TorchDispatchMode):
    """Adds up the FLOPs of what reaches the dispatcher, for which torch has formulas."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        out = func(*args, **(kwargs or {}))
        if formula := flop_registry.get(func.overloadpacket):
            self.flops += formula(*args, **(kwargs or {}), out_val=out)
        return out


class _Recorder(TorchFunctionMode):
    """Writes down each call of a function that computes, and in which module's forward it is."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.names: dict[nn.Module, list[str]] = {}
        for name, module in model.named_modules(remove_duplicate=False):
            self.names.setdefault(module, []).append(name)
        self.learned = {id(tensor) for tensor in [*model.parameters(), *model.buffers()]}
        self.stack: list[tuple[str, str]] = []
        self.calls: list[Call] = []
        self.dispatched = _Dispatched()

    def enter(self, module: nn.Module, _: Any) -> None:  # noqa: ANN401
        """Go into the forward of ``module``: below its caller, by its name there or, elsewhere registered, its last word."""
        own = self.names[module][0]
        if not self.stack:
            self.stack.append(("", own))
            return
        path, caller = self.stack[-1]
        prefix = f"{caller}." if caller else ""
        inside = [name.removeprefix(prefix) for name in self.names[module] if name.startswith(prefix)]
        local = min(inside, key=lambda name: name.count("."), default=own.rpartition(".")[2])
        self.stack.append((f"{path}.{local}".lstrip("."), own))

    def leave(self, _: nn.Module, __: Any, ___: Any) -> None:  # noqa: ANN401
        """Come out of it."""
        self.stack.pop()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        kwargs = kwargs or {}
        if func is functional.multi_head_attention_forward:
            with self:
                return _opened(func)(*args, **kwargs)
        before = self.dispatched.flops
        out = func(*args, **kwargs)
        given, results = _tensors((args, kwargs)), _tensors(out)
        if self.stack and given and results and _computes(func, kwargs, given, results):
            dispatched = (self.dispatched.flops - before) // FLOPS_PER_MAC
            third = args[2] if len(args) > 2 else None  # noqa: PLR2004 - (input, weight, bias)
            self._note(_operator(func), given, results, dispatched, biased=kwargs.get("bias", third) is not None)
        return out

    def _note(self, operator: str, given: list[Tensor], results: list[Tensor], dispatched: int, *, biased: bool) -> None:
        path, module = self.stack[-1]
        macs = multiply_adds(operator, [_shape(tensor) for tensor in given], _shape(results[0]), dispatched)
        if operator == "scaled_dot_product_attention":
            dispatched = macs  # as on the meta device: torch has no formula for the CPU's kernel
        self.calls.append(
            Call(
                operator=operator,
                path=path,
                module=module,
                inputs=tuple(_shape(tensor) for tensor in given if id(tensor) not in self.learned),
                weights=tuple(_shape(tensor) for tensor in given if id(tensor) in self.learned),
                output=_shape(results[0]),
                macs=macs,
                dispatched_macs=dispatched,
                bias=biased and operator in BIASED,
                bytes_read=sum(tensor.numel() * tensor.element_size() for tensor in given),
                bytes_written=sum(tensor.numel() * tensor.element_size() for tensor in results),
            )
        )


def _modules(recorder: _Recorder) -> dict[str, Module]:
    """Return the modules that own parameters or have called something themselves, by name."""
    calling = {call.module for call in recorder.calls}
    seen: set[int] = set()
    modules: dict[str, Module] = {}
    for module, names in recorder.names.items():
        own = list(module.parameters(recurse=False))
        if own or names[0] in calling:
            tied = tuple(_shape(parameter) for parameter in own if id(parameter) in seen)
            modules[names[0]] = Module(tuple(names), type(module).__name__, tuple(map(_shape, own)), tied)
            seen |= {id(parameter) for parameter in own}
    return modules


def _shape(tensor: Tensor) -> Shape:
    return tuple(tensor.shape)


def _opened(function: Any) -> FunctionType:  # noqa: ANN401
    """Return a copy of a Python function of torch that does not ask for a mode first: the calls inside it do."""
    return FunctionType(
        function.__code__,
        {**function.__globals__, "has_torch_function": lambda _: False},
        function.__name__,
        function.__defaults__,
    )


def _operator(func: Any) -> str:  # noqa: ANN401
    name = str(getattr(func, "__name__", func)).strip("_")
    return _NAMES.get(name, name)


def _computes(func: Any, kwargs: Mapping[str, Any], given: list[Tensor], results: list[Tensor]) -> bool:  # noqa: ANN401
    """Tell whether a call makes new numbers: neither a view, nor a copy, nor its own input handed back."""
    operator = _operator(func)
    if operator in _LAYOUT or operator.startswith(_FACTORIES) or operator == "get":
        return False
    if func.__name__.startswith("__i") or func.__name__[-2:-1] != "_" == func.__name__[-1:] or kwargs.get("inplace"):
        return True  # in place: add_, __iadd__
    storages = {tensor.untyped_storage()._cdata for tensor in given}  # noqa: SLF001 - its identity; meta tensors have no address
    return any(tensor.untyped_storage()._cdata not in storages for tensor in results)  # noqa: SLF001


def _tensors(values: Any) -> list[Tensor]:  # noqa: ANN401
    """Return the floating-point tensors among ``values``, however nested: indices and masks are no activations."""
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
