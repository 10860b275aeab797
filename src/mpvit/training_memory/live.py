"""What autograd really keeps of any network in training.

It runs on torch's fake tensors, which take the CPU's decisions (fused attention) but hold no numbers, as on the meta
device. A network that cannot, and autocast, where they take norms' statistics for bfloat16, run on the CPU itself.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call
from torch.utils._pytree import tree_leaves

from mpvit.errors import MpvitError
from mpvit.trace.live import trace_user_model
from mpvit.training_memory import Activations, Learned, Setting, TrainingMemory, transient_bytes, with_largest_batch

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
    transient = transient_bytes(trace_user_model(model).calls, setting.dtype)
    network = model.make().train()
    own = _registered(network)
    if not setting.autocast:
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        with contextlib.suppress(Exception), mode:
            fakes = {name: mode.from_tensor(tensor) for name, tensor in own.items()}
            learned, saved = _forward_and_backward(network, fakes, model.tensors("cpu"), setting)
            return learned, Activations(saved, transient)
    try:
        learned, saved = _forward_and_backward(network, own, model.tensors("cpu"), setting)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise MpvitError(f"{model.name} failed in training: {reason}") from error
    return learned, Activations(saved, transient)


def _registered(network: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by name, each once."""
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


def _forward_and_backward(
    network: nn.Module, tensors: Mapping[str, Tensor], inputs: Sequence[Tensor], setting: Setting
) -> tuple[Learned, int]:
    """Run ``network`` with ``tensors`` in the place of its own."""
    parameters = [tensors[name] for name, _ in network.named_parameters()]
    saved, out = _observed(
        lambda: functional_call(network, dict(tensors), tuple(inputs)), parameters, autocast=setting.autocast
    )
    results = [leaf.sum() for leaf in tree_leaves(out) if isinstance(leaf, Tensor) and leaf.requires_grad]
    if not results:
        raise MpvitError("nothing that it returns depends on a parameter that is trained")
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    gradients = [each for each in torch.autograd.grad(results, trained, allow_unused=True) if each is not None]
    return Learned(sum(each.numel() for each in parameters), _nbytes(parameters), _nbytes(gradients), len(gradients)), saved


def _nbytes(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
