"""Making a user's network with as little memory as it can be made with: on the meta device, or without its parameters."""

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
    """Return what a factory has made as a network in evaluation mode that takes ``inputs`` by position.

    What is compiled is taken as it was before. Raises ``UsageError`` for what is no network or does not take ``inputs``, and
    ``MpvitError`` for a network with a layer that nobody can see into.
    """
    if not isinstance(network, nn.Module):
        raise UsageError(f"--model {label!r} makes {type(network).__name__}, must be a torch.nn.Module")
    for name, module in network.named_modules():
        what = f"layer {name!r} ({type(module).__name__}) of {label}" if name else label
        if isinstance(module, torch.jit.ScriptModule):
            raise MpvitError(
                f"{what} is a scripted or traced module: its calls run in torch's interpreter, where none can be seen",
                hint="name the network as it is before torch.jit",
            )
        if type(module).__module__.startswith(_QUANTIZED):
            raise MpvitError(
                f"{what} is quantized: it multiplies packed whole numbers, which no convention counts",
                hint="name the network as it is before it is quantized",
            )
    return bind(_uncompiled(network).eval(), inputs, label)


def _uncompiled(network: nn.Module) -> nn.Module:
    """Return a network without ``torch.compile`` around it or any layer of it."""
    for module in list(network.modules()):
        module._compiled_call_impl = None  # noqa: SLF001 - what module.compile() leaves behind
        for name, child in list(module.named_children()):
            if (inside := _inside(child)) is not child:
                setattr(module, name, inside)
    return _inside(network)


def _inside(module: nn.Module) -> nn.Module:
    """Return what ``torch.compile`` has wrapped; anything else as it is. A wrapper hands on attributes, not children."""
    return dict(module.named_children()).get("_orig_mod", module)


@contextlib.contextmanager
def running(model: UserModel, during: str = "") -> Iterator[None]:
    """Run the network's code in the block, uncompiled; raise ``MpvitError`` where it fails."""
    hint = "--input gives the shape, as 1x3x224x224, and the dtype, as 1x128:int64"
    with eagerly(), guarded(f"{model.name} failed{during} on {model.shapes}", hint):
        yield


def on_meta(model: UserModel) -> nn.Module:
    """Return the network with nothing but shapes.

    Raises ``MpvitError`` where it cannot be made at all.
    """
    try:
        with torch.device("meta"):
            return _initialised(put(model.make(), "meta"), model, "meta")
    except UsageError:
        raise
    except MpvitError:
        return put(without_parameters(model), "meta")


def without_parameters(model: UserModel) -> nn.Module:
    """Return the network with its parameters on the meta device, where each goes as it is registered; all else is real.

    So a factory can compute with what it has, as the rates of drop path. One that needs the numbers of its parameters, or
    does not know their shapes yet, is made with them.
    """
    try:
        with _parameters_on_meta():
            network = model.make()
        if not any(map(is_lazy, network.parameters())):
            return network
    except UsageError:
        raise
    except MpvitError:
        model.note(f"{model.name}: its factory needs the numbers of its parameters, so they were made")
    return on_cpu(model)


def on_cpu(model: UserModel) -> nn.Module:
    """Return the network on the CPU with the numbers that its factory gives it, the same ones each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _initialised(model.make(), model, "cpu")


def _initialised(network: nn.Module, model: UserModel, device: str) -> nn.Module:
    """Return a network whose lazy layers know their shapes, by running it once if it has any."""
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
