"""What autograd really keeps of any network in training.

It runs on torch's fake tensors, which take the CPU's decisions (fused attention) but hold no numbers, as on the meta
device. A network that cannot, autocast, where they take norms' statistics for bfloat16, and what has a kernel of its own on
the CPU (``_OWN_KERNELS``) run on the CPU itself.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from mpvit.errors import MpvitError
from mpvit.measurement.machine import shortage
from mpvit.trace.arguments import results_in
from mpvit.trace.user_model import trace_user_model
from mpvit.training_memory import Activations, Learned, Setting, TrainingMemory, transient_bytes, with_largest_batch
from mpvit.user_model.making import on_cpu, running, without_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mpvit.user_model import UserModel


def saved_bytes(model: nn.Module, inputs: Sequence[Tensor], *, autocast: bool = False) -> int:
    """Return the bytes of the storages that autograd keeps of ``model(*inputs)``, each once, parameters left out.

    A view keeps its whole storage. ``autocast`` runs in bfloat16 under the CPU's rules, which the meta device has not.
    Raises what the forward pass raises.
    """
    return _observed(lambda: model(*inputs), list(model.parameters()), autocast=autocast)[0]


def _observed(call: Callable[[], Any], parameters: Sequence[Tensor], *, autocast: bool) -> tuple[int, Any]:
    """Return the bytes that autograd keeps of ``call``, and what it returns."""
    learned = {_identity(parameter) for parameter in parameters}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        if _identity(tensor) not in learned:
            kept[_identity(tensor)] = tensor.untyped_storage()
        return tensor

    with torch.autocast("cpu", torch.bfloat16, enabled=autocast), saved_tensors_hooks(keep, lambda tensor: tensor):
        out = call()
    return sum(storage.nbytes() for storage in kept.values()), out


def _identity(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata  # noqa: SLF001 - meta tensors have no address


def training_memory(model: UserModel, setting: Setting) -> TrainingMemory:
    """Return what training a user's network takes, in training mode, the first length of each input being the batch.

    Raises ``MpvitError`` where it fails in training.
    """

    def measure(batch: int) -> Activations:
        at = model._replace(inputs=tuple(each._replace(shape=(batch, *each.shape[1:])) for each in model.inputs))
        return _step(at, setting)[1]

    learned, activations = _step(model, setting)
    shapes = tuple(each.shape for each in model.inputs)
    found = TrainingMemory(model=model.name, input_shapes=shapes, setting=setting, learned=learned, activations=activations)
    return with_largest_batch(found, measure)


def _step(model: UserModel, setting: Setting) -> tuple[Learned, Activations]:
    """Run one training step and return what it held."""
    transient = transient_bytes(trace_user_model(model).trace.calls, setting.dtype)
    if not setting.autocast:
        with contextlib.suppress(MpvitError):
            learned, saved = _without_numbers(model, setting)
            return learned, Activations(saved, transient)
        model.note(f"{model.name}: its training step runs on the CPU, not on torch's fake tensors")
    learned, saved = _on_cpu(model, setting)
    return learned, Activations(saved, transient)


def _without_numbers(model: UserModel, setting: Setting) -> tuple[Learned, int]:
    network = without_parameters(model).train()
    with running(model, " in training"), FakeTensorMode(allow_non_fake_inputs=True) as mode, _RefusesOwnKernels():
        fakes = {name: _fake(mode, tensor) for name, tensor in _registered(network).items()}
        return _forward_and_backward(model, network, fakes, setting)


def _on_cpu(model: UserModel, setting: Setting) -> tuple[Learned, int]:
    """Run the step with numbers; raise ``MpvitError`` where there is no memory for them and their gradients."""
    shapes = without_parameters(model)
    if short := shortage(2 * _nbytes(list(shapes.parameters()))):
        raise MpvitError(f"{model.name} must be trained on the CPU for its figure: {short}")
    network = on_cpu(model).train()
    with running(model, " in training"):
        return _forward_and_backward(model, network, _registered(network), setting)


_OWN_KERNELS = frozenset({"lstm", "embedding_bag"})
"""Functions that keep more in the CPU's kernel than in the one that torch takes for tensors without numbers."""


class _RefusesOwnKernels(TorchFunctionMode):
    """Raises where such a function is called."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        if getattr(func, "__name__", "") in _OWN_KERNELS:
            raise NotImplementedError(f"{func.__name__} has a kernel of its own on the CPU")
        return func(*args, **(kwargs or {}))


def _fake(mode: FakeTensorMode, tensor: Tensor) -> Tensor:
    """Return a tensor without numbers, on the CPU, in the place of one that is there or on the meta device."""
    if not tensor.is_meta:
        return mode.from_tensor(tensor)
    return torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu", requires_grad=tensor.requires_grad
    )


def _registered(network: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by name, each once."""
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


def _forward_and_backward(
    model: UserModel, network: nn.Module, tensors: Mapping[str, Tensor], setting: Setting
) -> tuple[Learned, int]:
    """Run ``network`` with ``tensors`` in the place of its own."""
    inputs = tuple(model.tensors("cpu"))
    parameters = [tensors[name] for name, _ in network.named_parameters()]
    saved, out = _observed(lambda: functional_call(network, dict(tensors), inputs), parameters, autocast=setting.autocast)
    results = [tensor for tensor in results_in(out) if tensor.requires_grad]
    if not results:
        raise MpvitError(f"{model.name} failed in training: nothing that it returns depends on a parameter that is trained")
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    ones = [torch.ones_like(tensor) for tensor in results]
    gradients = [each for each in torch.autograd.grad(results, trained, ones, allow_unused=True) if each is not None]
    return Learned(sum(each.numel() for each in parameters), _nbytes(parameters), _nbytes(gradients), len(gradients)), saved


def _nbytes(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
