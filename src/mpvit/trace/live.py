"""The trace of any ``nn.Module``: one forward pass on the meta device, which computes nothing and takes no memory."""

from __future__ import annotations

import dis
import sys
from dataclasses import replace
from types import FunctionType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from mpvit.devices import put
from mpvit.errors import MpvitError
from mpvit.trace import Call, Module, ModuleCall, Trace, renamed
from mpvit.trace.multiply_adds import BIASED, multiply_adds
from mpvit.units import FLOPS_PER_MAC, times

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType

    from mpvit.operations import Shape
    from mpvit.user_model import UserModel

aten = torch.ops.aten

_LAYOUT = frozenset({
    "reshape", "reshape_as", "view", "view_as", "flatten", "unflatten", "contiguous", "clone", "detach", "to", "type",
    "type_as", "float", "double", "half", "bfloat16", "cpu", "cuda", "repeat", "permute", "transpose", "movedim", "squeeze",
    "unsqueeze", "expand", "expand_as", "unbind", "split", "chunk", "narrow", "roll", "flip",
})  # fmt: skip
"""Operators that at most copy: what they move depends on the memory format, so a trace leaves them out."""

_FACTORIES = ("empty", "zeros", "ones", "full", "new_", "rand", "arange")
"""How the names of operators begin that only take a tensor's shape."""

_SIGNS = {"iadd": "add", "radd": "add", "isub": "sub", "imul": "mul", "rmul": "mul", "itruediv": "div", "truediv": "div"}
"""Operators of methods behind a sign, by the method's name without its underscores."""

_SETTINGS = ("dim", "mode", "num_heads", "batch_first")
"""The attributes of modules by which tools count."""

_SHAPED = ("MultiheadAttention",)
"""Classes of modules of modules by whose shapes tools count."""


def trace_user_model(model: UserModel) -> Trace:
    """Return the trace of a user's model: on the meta device or, where it cannot run there, on the CPU.

    Raises ``MpvitError`` where its forward pass fails.
    """
    try:
        with torch.device("meta"):
            return trace_module(put(model.make(), "meta"), model.tensors("meta"))
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
    """Return the trace of ``model(*inputs)`` in evaluation mode, best on the meta device; leaves no trace on ``model``.

    Raises what the forward pass raises.
    """
    recorder = _Recorder(model)
    training = [module for module in model.modules() if module.training]
    fast_path = torch.backends.mha.get_fastpath_enabled()
    hooks = [module.register_forward_pre_hook(recorder.enter) for module in model.modules()]
    hooks += [module.register_forward_hook(recorder.leave, with_kwargs=False, always_call=True) for module in model.modules()]
    torch.backends.mha.set_fastpath_enabled(False)  # one opaque call, in which nobody could see what is multiplied
    try:
        model.eval()
        with torch.no_grad(), recorder.dispatched, recorder:
            model(*inputs)
    finally:
        for module in training:
            module.training = True
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for hook in hooks:
            hook.remove()
    shapes = tuple(tuple(tensor.shape) for tensor in inputs)
    return Trace(shapes, tuple(recorder.calls), tuple(call for call in recorder.module_calls if call), _modules(recorder))


class _Dispatched(TorchDispatchMode):
    """Adds up what reaches the dispatcher: the FLOPs for which torch has formulas, and the biases added with them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = self.biases = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        out = func(*args, **(kwargs or {}))
        if formula := flop_registry.get(func.overloadpacket):
            self.flops += formula(*args, **(kwargs or {}), out_val=out)
        if func.overloadpacket is aten.addmm or (func.overloadpacket is aten.convolution and args[2] is not None):
            self.biases += out.numel()
        return out


class _Recorder(TorchFunctionMode):
    """Writes down each call of a function that computes, and in which module's forward it is."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.names: dict[nn.Module, list[str]] = {}
        _name(model, "", self.names)
        self.learned = {id(tensor) for tensor in [*model.parameters(), *model.buffers()]}
        self.stack: list[tuple[str, str]] = []
        self.calls: list[Call] = []
        self.module_calls: list[ModuleCall | None] = []
        self.open: list[int] = []
        self.dispatched = _Dispatched()

    def enter(self, module: nn.Module, inputs: Any) -> None:  # noqa: ANN401
        """Go into the forward of ``module``: below its caller, by its name there or, elsewhere registered, its last word."""
        own = self.names[module][0]
        local = path = ""
        if self.stack:
            path, caller = self.stack[-1]
            prefix = f"{caller}." if caller else ""
            inside = [name.removeprefix(prefix) for name in self.names[module] if name.startswith(prefix)]
            local = min(inside, key=lambda name: name.count("."), default=own.rpartition(".")[2])
        path = f"{path}.{local}".strip(".")
        self.stack.append((path, own))
        self.open.append(len(self.module_calls))
        inputs = tuple(_shape(tensor) for tensor in _tensors(inputs)) if _is_shaped(module) else ()
        noted = path != own or len(self.names[module]) > 1 or any(True for _ in module.parameters())
        self.module_calls.append(ModuleCall(path, own, inputs) if noted else None)

    def leave(self, module: nn.Module, _: Any, outputs: Any) -> None:  # noqa: ANN401
        """Come out of it."""
        self.stack.pop()
        index = self.open.pop()
        call, results = self.module_calls[index], _tensors(outputs)
        if call and results and _is_shaped(module):
            self.module_calls[index] = replace(call, output=_shape(results[0]))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        kwargs = kwargs or {}
        if func is functional.multi_head_attention_forward:
            with self:
                return _opened(func)(*args, **kwargs)
        flops, biases = self.dispatched.flops, self.dispatched.biases
        out = func(*args, **kwargs)
        given, results = _tensors((args, kwargs)), _tensors(out)
        if not (self.stack and given and results and _computes(func, kwargs, given, results)):
            return out
        operator, (path, module) = _operator(func, args, kwargs), self.stack[-1]
        shapes, output = tuple(_shape(tensor) for tensor in given), _shape(results[0])
        dispatched = (self.dispatched.flops - flops) // FLOPS_PER_MAC
        macs = multiply_adds(operator, shapes, output, dispatched)
        third = args[2] if len(args) > 2 else None  # noqa: PLR2004 - (input, weight, bias)
        self.calls.append(
            Call(
                operator=operator,
                spelling=_spelling(func, sys._getframe(1)),  # noqa: SLF001 - only the code tells @ from .matmul()
                path=path,
                module=module,
                operands=shapes,
                learned=tuple(index for index, tensor in enumerate(given) if id(tensor) in self.learned),
                output=output,
                macs=macs,
                # the CPU's kernel of fused attention is one for which torch has no formula; on meta it has
                dispatched_macs=macs if operator == "scaled_dot_product_attention" else dispatched,
                dispatched_biases=self.dispatched.biases - biases,
                bias=operator in BIASED and kwargs.get("bias", third) is not None,
                equation=renamed(args[0]) if operator == "einsum" and isinstance(args[0], str) else "",
                bytes_read=sum(tensor.numel() * tensor.element_size() for tensor in given),
                bytes_written=sum(tensor.numel() * tensor.element_size() for tensor in results),
            )
        )
        return out


def _name(module: nn.Module, name: str, names: dict[nn.Module, list[str]]) -> None:
    """Give ``module`` and all below it their names, in the order in which torch walks a network."""
    names.setdefault(module, []).append(name)
    for child_name, child in module.named_children():
        _name(child, f"{name}.{child_name}".lstrip("."), names)


def _modules(recorder: _Recorder) -> dict[str, Module]:
    """Return the modules that own parameters, are called with any below them, or have called something themselves."""
    calling = {call.module for call in (*recorder.calls, *recorder.module_calls) if call}
    seen: set[int] = set()
    modules: dict[str, Module] = {}
    for module, names in recorder.names.items():
        own = dict(module.named_parameters(recurse=False))
        if own or names[0] in calling:
            modules[names[0]] = Module(
                names=tuple(names),
                type=_type(module),
                leaf=not any(True for _ in module.children()),
                parameters=tuple((name, _shape(parameter)) for name, parameter in own.items()),
                tied=tuple(name for name, parameter in own.items() if id(parameter) in seen),
                frozen=tuple(name for name, parameter in own.items() if not parameter.requires_grad),
                settings=_settings(module),
            )
            seen |= {id(parameter) for parameter in own.values()}
    return modules


def _type(module: nn.Module) -> str:
    kind = type(module)
    stranger = hasattr(nn, kind.__name__) and not kind.__module__.startswith("torch.")
    return f"{kind.__module__}.{kind.__name__}" if stranger else kind.__name__


def _settings(module: nn.Module) -> tuple[tuple[str, int | str], ...]:
    found = ((name, getattr(module, name, None)) for name in _SETTINGS)
    return tuple((name, value) for name, value in found if isinstance(value, int | str))


def _is_shaped(module: nn.Module) -> bool:
    return type(module).__name__ in _SHAPED or not any(True for _ in module.children())


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


def _operator(func: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> str:  # noqa: ANN401
    name = str(getattr(func, "__name__", func)).strip("_")
    if name == "interpolate":
        return f"interpolate {(kwargs or {}).get('mode', args[3] if len(args) > 3 else 'nearest')}"  # noqa: PLR2004
    return _SIGNS.get(name, name)


def _spelling(func: Any, caller: FrameType | None) -> str:  # noqa: ANN401
    """Return how the code of ``caller`` has written a call of ``func``; torch takes a sign for the method behind it."""
    name = getattr(func, "__name__", "")
    if getattr(functional, name, None) is func:
        return "functional"
    if getattr(Tensor, name, None) is not func:
        return "torch"
    instruction = caller.f_code.co_code[caller.f_lasti] if caller else 0
    return "sign" if dis.opname[instruction] == "BINARY_OP" else "method"


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
