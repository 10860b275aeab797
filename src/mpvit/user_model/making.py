"""Making a user's network with as little memory as possible: on the meta device, or at least its parameters there."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.nn.parameter import is_lazy
from torch.utils.weak import WeakIdKeyDictionary

from mpvit.errors import MpvitError, UsageError
from mpvit.user_model import UserModel
from mpvit.user_model.devices import put
from mpvit.user_model.guard import eagerly, guarded
from mpvit.user_model.inputs import Input, bind

_QUANTIZED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.ao.nn.sparse.quantized")


def prepared(network: Any, label: str, inputs: Sequence[Input]) -> nn.Module:  # noqa: ANN401 - whatever a factory makes
    """Return the network that a factory has made, in evaluation mode, uncompiled, taking ``inputs`` by position.

    Raises ``UsageError`` if it is no network or does not take ``inputs``, and ``MpvitError`` if it has a layer whose calls
    cannot be traced.
    """
    if not isinstance(network, nn.Module):
        raise UsageError(f"model {label!r} makes {type(network).__name__}, must be a torch.nn.Module")
    for name, module in network.named_modules():
        what = f"layer {name!r} ({type(module).__name__}) of {label}" if name else label
        if isinstance(module, torch.jit.ScriptModule):
            raise MpvitError(
                f"{what} is a scripted or traced module: its calls run in torch's interpreter, which cannot be traced",
                hint="name the network as it is before torch.jit",
            )
        if type(module).__module__.startswith(_QUANTIZED):
            raise MpvitError(
                f"{what} is quantized: it multiplies packed whole numbers, which no convention counts",
                hint="name the network as it is before it is quantized",
            )
    return bind(_uncompiled(network).eval(), inputs, label)


def _uncompiled(network: nn.Module) -> nn.Module:
    """Return a network without ``torch.compile`` around it or around its layers."""
    for module in list(network.modules()):
        module._compiled_call_impl = None  # noqa: SLF001 - what module.compile() leaves behind
        for name, child in list(module.named_children()):
            if (inside := _inside(child)) is not child:
                setattr(module, name, inside)
    return _inside(network)


def _inside(module: nn.Module) -> nn.Module:
    """Return the module inside a wrapper of ``torch.compile``, which hides its children; any other module itself."""
    return dict(module.named_children()).get("_orig_mod", module)


@contextlib.contextmanager
def running(model: UserModel, during: str = "") -> Iterator[None]:
    """Run the network's code in the block, uncompiled; raise ``MpvitError`` if it fails."""
    hint = "an input is written with its shape and dtype: 1x3x224x224 or 1x128:int64"
    with eagerly(), guarded(f"{model.name} failed{during} on {model.shapes}", hint):
        yield


def on_meta(model: UserModel) -> nn.Module:
    """Return the network on the meta device; raise ``MpvitError`` if it cannot be made at all."""
    try:
        with torch.device("meta"):
            return _initialised(put(model.make(), "meta"), model, "meta")
    except UsageError:
        raise
    except MpvitError:
        return put(without_parameters(model), "meta")


def without_parameters(model: UserModel) -> nn.Module:
    """Return the network with its parameters on the meta device, where each moves when it is registered.

    A factory can compute with everything else, such as drop path rates. If it needs the values of its parameters, or does not
    know their shapes yet, the network is made with them, on the CPU.
    """
    try:
        with _parameters_on_meta():
            network = model.make()
        if not any(map(is_lazy, network.parameters())):
            return network
    except UsageError:
        raise
    except MpvitError:
        model.note(f"{model.name}: its factory needs the values of its parameters, so they were made")
    return on_cpu(model)


def on_cpu(model: UserModel) -> nn.Module:
    """Return the network on the CPU with the values that its factory gives it, the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _initialised(model.make(), model, "cpu")


def _initialised(network: nn.Module, model: UserModel, device: str) -> nn.Module:
    """Return a network whose lazy layers know their shapes: if it has any, it runs once."""
    if any(map(is_lazy, network.parameters())):
        with torch.no_grad(), running(model):
            network(*model.tensors(device))
    return network


@contextlib.contextmanager
def _parameters_on_meta() -> Iterator[None]:
    found = WeakIdKeyDictionary()  # a parameter registered twice stays one

    def emptied(_: nn.Module, __: str, parameter: Tensor | None) -> Tensor | None:
        if parameter is None or parameter.is_meta or is_lazy(parameter):
            return None
        if parameter not in found:
            found[parameter] = nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
        return found[parameter]

    hook = register_module_parameter_registration_hook(emptied)  # type: ignore[arg-type] # it may return a parameter
    try:
        yield
    finally:
        hook.remove()
